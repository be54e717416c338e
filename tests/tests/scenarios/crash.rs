//! A sample of the crash matrix; `cargo crash --kills N` tries more of it.

use anyhow::Result;
use inlet_tests::crash::Matrix;
use inlet_tests::{Scratch, scenario};

async fn through(scratch: &Scratch, points: &[&str]) -> Result<()> {
	let mut matrix = Matrix::start(scratch).await?;
	for point in points {
		matrix.survive(point).await?;
	}
	matrix.finish().await
}

#[test]
fn r12_killed_at_every_state_of_a_sale() {
	let points = [
		"sale.bought.written",
		"sale.gathering.written",
		"sale.opening.written",
		"sale.opening.done",
		"sale.forwarded.written",
	];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_when_a_sale_is_done() {
	let points = ["sale.forwarded.decided", "sale.forwarded.done", "sale.done.decided", "sale.done.written"];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_at_every_state_of_an_order() {
	let points = [
		"order.preparing.written",
		"order.awaiting_payment.written",
		"order.paid.written",
		"order.opening.done",
		"order.funded.decided",
		"order.funded.written",
		"order.completed.decided",
	];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_between_the_steps_of_a_funding() {
	let points = [
		"sale/funding.monitor.decided",
		"sale/funding.release.decided",
		"order/funding.monitor.written",
		"order/funding.broadcast.decided",
		"order/funding.sent.done",
	];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_in_a_refund_and_while_a_client_is_woken() {
	let points = ["refund/refund.recorded.decided", "wake/client.holding.done", "wake/wake.told.done"];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_between_the_steps_of_a_funding_that_two_orders_share() {
	let points = [
		"batch/batch.funded.written",
		"batch/batch.given.all",
		"batch/batch.signed.all",
		"batch/batch.kept.done",
		"batch/batch.broadcast.done",
	];
	scenario(async |scratch| through(scratch, &points).await);
}

#[test]
fn r12_killed_while_a_shared_funding_is_given_up() {
	let points =
		["dissolved/batch.dissolving.decided", "dissolved/batch.dissolving.told", "dissolved/batch.dissolving.closed"];
	scenario(async |scratch| through(scratch, &points).await);
}
