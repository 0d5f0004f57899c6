//! Every route on one screen: what it asks of its caller, and what answers.

use axum::error_handling::HandleErrorLayer;
use axum::middleware::from_fn_with_state;
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
    dependencies, events, health, instances, intake, metrics, orders, problem, schedules, signals,
    webhook, workflows,
};

/// How many requests that ask the database directly are answered at once; signals are counted by
/// themselves, so that no flood of them keeps people from looking. What sends orders is not counted:
/// the engine's own queue refuses what is too much, and slow senders hold up nobody.
const REQUESTS_MAX: usize = 256;

/// All routes, with everything that wraps them.
pub(crate) fn router(app: &App) -> Router {
    let may = |permission| from_fn_with_state((app.clone(), permission), require);

    let open = OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::show));

    let signed = OpenApiRouter::new().routes(routes!(webhook::shopify::receive));

    let ingest = OpenApiRouter::new()
        .routes(routes!(orders::create::create))
        .route_layer(may(Permission::Send));

    let signal = OpenApiRouter::new()
        .routes(routes!(signals::send::send))
        .route_layer(may(Permission::Send));

    let read = OpenApiRouter::new()
        .routes(routes!(orders::show::show))
        .routes(routes!(orders::show::show_of_shop))
        .routes(routes!(instances::list::list))
        .routes(routes!(instances::show::show))
        .routes(routes!(instances::show::history))
        .routes(routes!(workflows::list::list))
        .routes(routes!(dependencies::list::list))
        .routes(routes!(events::blocked::list))
        .routes(routes!(events::blocked::show))
        .routes(routes!(events::leftover::list))
        .routes(routes!(intake::cases::list))
        .routes(routes!(schedules::list::list))
        .routes(routes!(schedules::show::show))
        .routes(routes!(instances::preview::preview))
        .route_layer(may(Permission::Read));

    let command = OpenApiRouter::new()
        .routes(routes!(instances::command::command))
        .routes(routes!(schedules::command::command))
        .routes(routes!(events::command::command))
        .routes(routes!(events::discard::command))
        .routes(routes!(intake::command::command))
        .route_layer(may(Permission::Command));

    let limited = || {
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(shed))
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX))
    };

    let (router, document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(open)
        .merge(signed)
        .merge(ingest)
        .merge(signal.layer(limited()))
        .merge(read.merge(command).layer(limited()))
        .split_for_parts();

    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(Extension(Document::new(&document)))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app.clone())
}
