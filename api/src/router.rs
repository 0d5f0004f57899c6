//! Every route on one screen: what it asks of its caller, and what answers.

use axum::error_handling::HandleErrorLayer;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use axum::{Extension, Router};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::{Permission, require};
use crate::observe::{observe, shed};
use crate::openapi::{self, Document};
use crate::{
    deliveries, dependencies, doctor, events, health, instances, intake, metrics, orders, problem,
    schedules, signals, webhook, workflows,
};

/// How many requests that ask the database directly are answered at once; signals are counted by
/// themselves, so that no flood of them keeps people from looking. What sends orders is not counted:
/// the engine's own queue refuses what is too much, and slow senders hold up nobody.
const REQUESTS_MAX: usize = 256;

/// What is served, with everything that wraps it.
pub(crate) struct Routers {
    /// All there is, to those who may.
    pub(crate) public: Router,
    /// How the server is doing, without a token, for an address of its own.
    pub(crate) operation: Router,
}

/// All routes.
pub(crate) fn router(app: &App) -> Routers {
    let limited = || {
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(shed))
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX))
    };
    // Outermost: a request takes a place only once it is let in.
    let may = |permission| from_fn_with_state((app.clone(), permission), require);

    let probes =
        || OpenApiRouter::new().routes(routes!(health::live)).routes(routes!(health::ready));
    let metrics = || OpenApiRouter::new().routes(routes!(metrics::show));
    let description = || OpenApiRouter::new().routes(routes!(openapi::show));

    let signed = OpenApiRouter::new().routes(routes!(webhook::shopify::receive));

    let ingest = OpenApiRouter::new()
        .routes(routes!(orders::create::create))
        .route_layer(may(Permission::Send));

    let signal = OpenApiRouter::new()
        .routes(routes!(signals::send::send))
        .layer(limited())
        .route_layer(may(Permission::Send));

    let looks_and_commands = limited();
    let read = OpenApiRouter::new()
        .routes(routes!(orders::show::show))
        .routes(routes!(orders::show::show_of_shop))
        .routes(routes!(instances::list::list))
        .routes(routes!(instances::show::show))
        .routes(routes!(instances::show::history))
        .routes(routes!(workflows::list::list))
        .routes(routes!(dependencies::list::list))
        .routes(routes!(doctor::show))
        .routes(routes!(events::blocked::list))
        .routes(routes!(events::blocked::show))
        .routes(routes!(events::leftover::list))
        .routes(routes!(deliveries::list::list))
        .routes(routes!(deliveries::show::show))
        .routes(routes!(deliveries::show::body))
        .routes(routes!(intake::cases::list))
        .routes(routes!(schedules::list::list))
        .routes(routes!(schedules::show::show))
        .routes(routes!(instances::preview::preview))
        .layer(looks_and_commands.clone())
        .route_layer(may(Permission::Read));

    let command = OpenApiRouter::new()
        .routes(routes!(instances::command::command))
        .routes(routes!(schedules::command::command))
        .routes(routes!(events::command::command))
        .routes(routes!(events::discard::command))
        .routes(routes!(deliveries::command::command))
        .routes(routes!(intake::command::command))
        .layer(looks_and_commands)
        .route_layer(may(Permission::Command));

    let (router, document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(probes())
        .merge(metrics().route_layer(may(Permission::Read)))
        .merge(description().route_layer(may(Permission::Describe)))
        .merge(signed)
        .merge(ingest)
        .merge(signal)
        .merge(read)
        .merge(command)
        .split_for_parts();
    // People enter an address with a slash at its end, and a shop gives up on one that answers 404.
    let router = router.route("/webhooks/shopify/{shop}/", post(webhook::shopify::receive));
    let (operation, _) = probes().merge(metrics()).merge(description()).split_for_parts();

    let document = Document::new(&document);
    Routers { public: wrap(router, &document, app), operation: wrap(operation, &document, app) }
}

/// Everything that wraps routes, whichever they are.
fn wrap(router: Router<App>, document: &Document, app: &App) -> Router {
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(Extension(document.clone()))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app.clone())
}
