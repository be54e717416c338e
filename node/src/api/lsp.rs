//! What is sold: orders, sales, clients, prices and the ledger.

use super::context::{Context, Reply};
use super::extract::{Args, Body, Id, List};
use super::routes::{Endpoint, on};
use crate::control::{
	Capital, HoldTimes, Ledger, LedgerCheck, LedgerCheckRequest, LedgerReport, LedgerReportRequest, Order, OrderDetail,
	Page, Quote, QuoteRequest, ReclaimPlan, ReclaimRequest, Reclaimed, Sale, SaleDetail,
};
use axum::extract::State;
use axum::http::Method;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/orders", orders),
		on(Method::GET, "/v1/orders/{id}", order),
		on(Method::GET, "/v1/sales", sales),
		on(Method::GET, "/v1/sales/{id}", sale),
		on(Method::GET, "/v1/holds", holds),
		on(Method::GET, "/v1/quote", quote),
		on(Method::GET, "/v1/ledger", ledger),
		on(Method::GET, "/v1/capital", capital),
		on(Method::GET, "/v1/capital/reclaim", reclaim_plan),
		on(Method::POST, "/v1/capital/reclaim", reclaim),
		on(Method::GET, "/v1/ledger/check", ledger_check),
		on(Method::GET, "/v1/ledger/report", ledger_report),
	]
}

async fn orders(State(context): State<Context>, List(list): List) -> Reply<Page<Order>> {
	context.ask(|node| async move { node.orders(list).await }).await
}

async fn order(State(context): State<Context>, Id(id): Id) -> Reply<OrderDetail> {
	context.ask(|node| async move { node.order(id).await }).await
}

async fn sales(State(context): State<Context>, List(list): List) -> Reply<Page<Sale>> {
	context.ask(|node| async move { node.sales(list).await }).await
}

async fn sale(State(context): State<Context>, Id(id): Id) -> Reply<SaleDetail> {
	context.ask(|node| async move { node.sale(id).await }).await
}

async fn holds(State(context): State<Context>) -> Reply<HoldTimes> {
	context.ask(|node| async move { node.holds().await }).await
}

async fn quote(State(context): State<Context>, Args(request): Args<QuoteRequest>) -> Reply<Quote> {
	context.ask(|node| async move { node.quote(request).await }).await
}

async fn ledger(State(context): State<Context>, List(list): List) -> Reply<Ledger> {
	context.ask(|node| async move { node.ledger(list).await }).await
}

async fn ledger_check(State(context): State<Context>, Args(request): Args<LedgerCheckRequest>) -> Reply<LedgerCheck> {
	context.ask(|node| async move { node.ledger_check(request).await }).await
}

async fn ledger_report(
	State(context): State<Context>,
	Args(request): Args<LedgerReportRequest>,
) -> Reply<LedgerReport> {
	context.ask(|node| async move { node.ledger_report(request).await }).await
}

async fn capital(State(context): State<Context>) -> Reply<Capital> {
	context.ask(|node| async move { node.capital().await }).await
}

async fn reclaim_plan(State(context): State<Context>) -> Reply<ReclaimPlan> {
	context.ask(|node| async move { node.reclaim_plan().await }).await
}

async fn reclaim(State(context): State<Context>, Body(request): Body<ReclaimRequest>) -> Reply<Reclaimed> {
	context.ask(|node| async move { node.reclaim(request).await }).await
}
