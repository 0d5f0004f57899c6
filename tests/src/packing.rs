//! A workflow of which a test has several builds: the same name and version, and other code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use amends::{
    Call, Declaration, Halt, Imbalance, Ledger, Outcome, Saga, Start, Step, StepError, Steps, Undo,
    Undone, Workflow,
};
use serde::{Deserialize, Serialize};

/// What a parcel comes to at its last step, the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// The first attempt fails, so it waits; the second one succeeds.
    Waits,
    /// It is done, but does not add up, so it is stuck.
    Sticks,
    /// It fails for good, and what is to be undone first cannot be undone yet.
    Undoes,
    /// There is no answer, so it is running.
    Runs,
}

/// How the code of a build differs from the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Pick, pack, label.
    Usual,
    /// Pick, weigh, pack, label.
    Inserted,
    /// Packs something else.
    OtherInput,
    /// Calls packing wrapping.
    Renamed,
    /// Ends after the first step.
    Shortened,
    /// Panics after the first step.
    Panics,
    /// Waits after the first step for what no saga knows of.
    Hangs,
    /// Forgets to list the label among its steps.
    Unlisted,
    /// Labels while it picks and packs.
    Parallel,
}

/// A parcel to be packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// What it comes to.
    pub fate: Fate,
    /// What it weighs.
    pub grams: u32,
}

/// The names of the steps.
const NAMES: [&str; 5] = ["pick", "weigh", "pack", "wrap", "label"];
const PICK: usize = 0;
const WEIGH: usize = 1;
const PACK: usize = 2;
const WRAP: usize = 3;
const LABEL: usize = 4;

/// A step that counts how often it runs or is undone.
#[derive(Clone)]
struct Counted<const STEP: usize>(Arc<AtomicU32>);

impl<const STEP: usize> Step for Counted<STEP> {
    const NAME: &'static str = NAMES[STEP];
    type Input = Parcel;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().settles_within(Duration::ZERO).undo()
    }

    async fn run(&self, call: &Call, parcel: &Parcel) -> Result<u32, StepError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match parcel.fate {
            _ if STEP != LABEL => Ok(parcel.grams),
            Fate::Waits if call.attempt == 1 => Err(StepError::retry("PRINTER_DOWN", "no paper")),
            Fate::Undoes => Err(StepError::fail("ADDRESS_UNKNOWN", "nobody lives there")),
            Fate::Runs => std::future::pending().await,
            Fate::Waits | Fate::Sticks => Ok(parcel.grams),
        }
    }
}

impl<const STEP: usize> Undo for Counted<STEP> {
    async fn undo(&self, _: &Call, _: &Parcel, _: Option<&u32>) -> Result<Undone, StepError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(StepError::retry("SHELF_FULL", "there is no room on the shelf"))
    }
}

/// A build of the workflow. Clones share their count.
#[derive(Clone)]
pub struct Packing<const VERSION: u32 = 1> {
    build: Build,
    effects: Arc<AtomicU32>,
}

impl<const VERSION: u32> Packing<VERSION> {
    /// A build that has run nothing yet.
    #[must_use]
    pub fn new(build: Build) -> Self {
        Self { build, effects: Arc::default() }
    }

    /// How often any step of it has run or was undone.
    #[must_use]
    pub fn effects(&self) -> u32 {
        self.effects.load(Ordering::SeqCst)
    }

    fn step<const STEP: usize>(&self) -> Counted<STEP> {
        Counted(Arc::clone(&self.effects))
    }
}

impl<const VERSION: u32> Workflow for Packing<VERSION> {
    const NAME: &'static str = "packing";
    const VERSION: u32 = VERSION;
    type Input = Parcel;
    type Output = u32;

    fn steps(&self) -> Steps {
        let steps = Steps::new().step(&self.step::<PICK>()).step(&self.step::<WEIGH>());
        let steps = match self.build {
            Build::Renamed => steps.step(&self.step::<WRAP>()),
            _ => steps.step(&self.step::<PACK>()),
        };
        match self.build {
            Build::Unlisted => steps,
            _ => steps.step(&self.step::<LABEL>()),
        }
    }

    async fn run(&self, saga: &Saga, parcel: Parcel) -> Result<u32, Halt> {
        let (pick, pack, label) = (self.step::<PICK>(), self.step::<PACK>(), self.step::<LABEL>());
        if self.build == Build::Parallel {
            let picked = async {
                saga.run(&pick, &parcel).await?;
                saga.run(&pack, &parcel).await
            };
            let labelled = saga.run(&label, &parcel);
            return futures::future::try_join(labelled, picked).await.map(|(grams, _)| grams);
        }
        saga.run(&pick, &parcel).await?;
        match self.build {
            Build::Inserted => {
                saga.run(&self.step::<WEIGH>(), &parcel).await?;
                saga.run(&pack, &parcel).await?;
            }
            Build::OtherInput => {
                let heavier = Parcel { grams: parcel.grams + 1, ..parcel };
                saga.run(&pack, &heavier).await?;
            }
            Build::Renamed => {
                saga.run(&self.step::<WRAP>(), &parcel).await?;
            }
            Build::Shortened => return Ok(parcel.grams),
            Build::Panics => panic!("this build cannot pack"),
            Build::Hangs => std::future::pending().await,
            Build::Usual | Build::Unlisted | Build::Parallel => {
                saga.run(&pack, &parcel).await?;
            }
        }
        saga.run(&label, &parcel).await
    }

    fn balanced(&self, _: Outcome, parcel: &Parcel, _: &Ledger) -> Result<(), Imbalance> {
        match parcel.fate {
            Fate::Sticks => Err(Imbalance("a parcel is missing".to_owned())),
            _ => Ok(()),
        }
    }
}

/// A request to pack a parcel of this fate.
#[must_use]
pub fn start(business_key: &str, fate: Fate) -> Start {
    Start {
        workflow: Packing::<1>::NAME,
        business_key: business_key.to_owned(),
        input: serde_json::to_string(&Parcel { fate, grams: 250 }).expect("a parcel is JSON"),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}
