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
