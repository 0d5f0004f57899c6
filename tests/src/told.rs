//! A workflow that does nothing but tell of itself.

use amends::{Engine, Event, Halt, Milestone, Priority, Saga, Start, Started, Steps, Workflow};

/// Tells of its start, of itself, and of its end.
pub struct Tells;

impl Tells {
    /// How many events an instance publishes.
    pub const EVENTS: usize = 3;
}

impl Workflow for Tells {
    const NAME: &'static str = "tells";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        match milestone {
            Milestone::Started { .. } => vec![Event::new("STARTED", &1)],
            Milestone::Completed { .. } => vec![Event::new("COMPLETED", &3)],
            _ => vec![],
        }
    }

    async fn run(&self, saga: &Saga, input: String) -> Result<String, Halt> {
        saga.publish(Event::new("TOLD", &2)).await?;
        Ok(input)
    }
}

/// Starts one under this key.
pub async fn start(engine: &Engine, business_key: String) {
    let request = Start {
        workflow: Tells::NAME,
        business_key,
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: Priority::Normal,
    };
    let started = engine.start(request).await.expect("it can be started");
    assert!(matches!(started, Started::New(_)), "{started:?}");
}
