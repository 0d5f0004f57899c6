//! `GET /orders/..`: how an order is doing, by instance or by shop and order.

use amends::Workflow;
use amends::view::{Filter, InstanceView};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::OrderKey;
use axum::Json;
use axum::extract::State;

use super::story::{Story, tell};
use crate::app::App;
use crate::openapi::Showing;
use crate::path::{Id, Pair};
use crate::problem::{Code, Problem};
use crate::view::Record;

/// Shows an order by the id that `POST /orders` answered.
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "show_order",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The instance that carries out the order")),
    responses((status = 200, description = "How the order is doing", body = Story), Showing)
)]
pub(crate) async fn show(
    State(app): State<App>,
    Id(instance_id): Id,
) -> Result<Json<Story>, Problem> {
    let instance = app.engine().instance(instance_id).await?;
    story(&app, instance).await
}

/// Shows an order by what its shop calls it.
#[utoipa::path(
    get,
    path = "/orders/{shop}/{order_id}",
    operation_id = "show_order_of_shop",
    tag = "orders",
    params(
        ("shop" = String, Path, description = "The shop, however it is spelt", example = "acme.myshopify.com"),
        ("order_id" = String, Path, description = "The shop's id of it", example = "5940139491234"),
    ),
    responses((status = 200, description = "How the order is doing", body = Story), Showing)
)]
pub(crate) async fn show_of_shop(
    State(app): State<App>,
    Pair(shop, order_id): Pair,
) -> Result<Json<Story>, Problem> {
    let typed = format!("{shop}/{order_id}");
    let key = OrderKey::try_new(&shop, &order_id).ok().map(|key| key.to_string());
    // Orders of before keep the spelling that they came with, whatever it is.
    for business_key in key.into_iter().chain([typed]) {
        let filter = Filter {
            workflow: Some(Fulfilment::NAME.to_owned()),
            business_key: Some(business_key),
            limit: 1,
            ..Filter::default()
        };
        let found = app.engine().instances(&filter).await?.pop();
        if found.is_some() {
            return story(&app, found).await;
        }
    }
    story(&app, None).await
}

async fn story(app: &App, instance: Option<InstanceView>) -> Result<Json<Story>, Problem> {
    let unknown = || Problem::new(Code::UnknownOrder, "there is no such order here");
    let instance =
        instance.filter(|found| found.workflow == Fulfilment::NAME).ok_or_else(unknown)?;
    let history = app.engine().history(instance.instance_id).await?;
    let history: Vec<_> = history.into_iter().map(Record::from).collect();
    tell(instance.into(), &history).map(Json).ok_or_else(|| {
        tracing::error!("the history of an order does not begin with an order");
        Problem::internal()
    })
}
