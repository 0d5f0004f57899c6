//! Code that changes under live instances, behind a question that is asked more than once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amends::{Engine, EngineBuilder, Saga, Status};
use amends_tests::improvised::{Ran, Stage, start, start_request};
use amends_tests::kit::{Kit, KitBuilder, crash_everywhere};
use futures::FutureExt;

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const PATCH: &str = "charge-by-b";

/// What a build runs: the code before a change or after it.
#[derive(Clone)]
struct Build {
    is_new: Arc<AtomicBool>,
    stage: Stage,
}

impl Build {
    fn old() -> Self {
        Self { is_new: Arc::default(), stage: Stage::plain() }
    }

    fn deploy(&self) {
        self.is_new.store(true, Ordering::SeqCst);
    }

    fn engine(&self) -> impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static {
        let is_new = Arc::clone(&self.is_new);
        self.stage.engine(move |saga, stage| charge_monthly(saga, stage, &is_new))
    }

    async fn kit(&self, builder: KitBuilder) -> Kit {
        builder.build(self.engine()).await
    }
}

/// Charges three times, and asks by which provider at two places at once.
fn charge_monthly<'a>(saga: &'a Saga, stage: &'a Stage, is_new: &AtomicBool) -> Ran<'a> {
    let is_new = is_new.load(Ordering::SeqCst);
    async move {
        let by_b = async || if is_new { saga.patched(PATCH).await } else { Ok(false) };
        for month in 1..=3 {
            let (fee, tip) = (format!("fee {month}"), format!("tip {month}"));
            let charge = async |occurrence, what| {
                let at = saga.at(format!("{occurrence} of {month}"));
                let charged = if by_b().await? {
                    at.run(&stage.b, what).await
                } else {
                    at.run(&stage.a, what).await
                };
                charged.map(drop)
            };
            tokio::try_join!(charge("fee", &fee), charge("tip", &tip))?;
            saga.sleep(MONTH).await?;
        }
        Ok("end".to_owned())
    }
    .boxed()
}

/// What was charged, in the order of what it was for.
fn charged(stage: &Stage) -> Vec<String> {
    let mut log = stage.log();
    log.sort();
    log.dedup();
    log
}

fn all_by(step: &str) -> Vec<String> {
    let what = |what: &'static str| (1..=3).map(move |month| format!("{step} {what} {month}"));
    what("fee").chain(what("tip")).collect()
}

#[tokio::test]
async fn an_instance_keeps_to_the_code_that_it_began_a_loop_with_whatever_crashes() {
    for deployed_in in [0, 2] {
        let points = crash_everywhere(async |builder| {
            let build = Build::old();
            let kit = build.kit(builder).await;
            if deployed_in == 0 {
                build.deploy();
            }
            let id = kit.begin(start_request("it")).await;
            kit.settle().await;
            for month in 1..=4 {
                if month == deployed_in {
                    build.deploy();
                }
                kit.pass(MONTH).await;
            }
            assert_eq!(kit.status(id).await, Status::Completed);
            let expected = if deployed_in == 0 { "b" } else { "a" };
            assert_eq!(charged(&build.stage), all_by(expected), "{deployed_in}");
            kit.finish().await;
        })
        .await;
        assert!(points.len() > 10);
    }
}

#[tokio::test]
async fn a_check_before_the_deployment_says_what_is_true_after_it() {
    let build = Build::old();
    let world = amends_tests::World::builder().engine(build.engine()).build().await;
    start(&world, "it").await;
    world.settle().await;
    world.pass(MONTH).await;
    build.deploy();
    for _ in 0..2 {
        let builder = build.engine()(Engine::builder(world.options()));
        let report = builder.check(|checked| assert_eq!(checked.misfit, None)).await.unwrap();
        assert_eq!(report.instances(), 1);
        world.pass(MONTH).await;
    }
    assert_eq!(charged(&build.stage), all_by("a"));
    world.finish().await;
}
