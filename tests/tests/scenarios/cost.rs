//! What a forwarded payment may cost the disk, and how memory is kept: counted, not timed, so that a slow machine does not matter.
//!
//! The bounds are well above what is seen (in brackets), and far below what a mistake costs: a graph, a whole manager or a
//! metric written on the payment path, a group commit that no longer groups, a removal that syncs by itself.

use inlet_tests::race::meter::{Counts, Interposer, Meter, arenas};
use inlet_tests::thin::{ThinConfig, ThinNode};
use inlet_tests::{Backend, Inlet, InletOptions, World, eventually, scenario};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// Payments one after another.
const ALONE: usize = 10;
/// Payments at once.
const TOGETHER: usize = 40;
const MSAT: u64 = 1_000_000;

async fn pay(payer: &ThinNode, payee: &ThinNode) {
	let hash = payer.pay(&payee.invoice(Some(MSAT)).unwrap(), None, 1).unwrap();
	payer.outcome(hash, LONG).await.unwrap().unwrap();
}

/// What was counted once nothing is written any more.
async fn settled(meter: &Meter, lsp: &Inlet) -> Counts {
	let last = std::cell::Cell::new((meter.read(lsp.pid().unwrap()).unwrap(), Instant::now()));
	eventually(LONG, "nothing is written any more", async || {
		let now = meter.read(lsp.pid()?)?;
		if now.syncs != last.get().0.syncs {
			last.set((now, Instant::now()));
		}
		Ok((last.get().1.elapsed() > Duration::from_millis(500)).then_some(()))
	})
	.await
	.unwrap();
	meter.read(lsp.pid().unwrap()).unwrap()
}

#[test]
fn a_forwarded_payment_costs_few_syncs_and_few_bytes() {
	scenario(async |scratch| {
		let (meter, environment) = Interposer::build(scratch.path())?.meter()?;
		let options = InletOptions { environment, ..InletOptions::default() };
		let world = World::start_with(scratch, Backend::Bitcoind, options).await?;
		let payer = ThinNode::start(&world.bitcoind, ThinConfig::stranger("payer")).await?;
		let payee = ThinNode::start(&world.bitcoind, ThinConfig::stranger("payee")).await?;
		payer.open_channel(&world.lsp.uri(), 5_000_000, 0, false).await?;
		payee.open_channel(&world.lsp.uri(), 5_000_000, 4_900_000, false).await?;
		world.mine(6, &[]).await?;
		payer.usable_channels(1, LONG).await?;
		payee.usable_channels(1, LONG).await?;
		eventually(LONG, "a first payment arrives", async || {
			let hash = payer.pay(&payee.invoice(Some(MSAT))?, None, 1)?;
			Ok(payer.outcome(hash, LONG).await?.ok())
		})
		.await?;

		let before = settled(&meter, &world.lsp).await;
		for _ in 0..ALONE {
			pay(&payer, &payee).await;
		}
		let alone = settled(&meter, &world.lsp).await - before;
		let each = |sum: f64| sum / ALONE as f64;
		// One writer syncs one batch after the other: as many syncs, so many serial rounds. [9]
		assert!(each(alone.syncs) <= 14.0, "{} syncs for a payment", each(alone.syncs));
		// [27 kB]
		assert!(each(alone.bytes) <= 60_000.0, "{} bytes for a payment", each(alone.bytes));

		let before = settled(&meter, &world.lsp).await;
		futures::future::join_all((0..TOGETHER).map(|_| pay(&payer, &payee))).await;
		let together = settled(&meter, &world.lsp).await - before;
		let each = |sum: f64| sum / TOGETHER as f64;
		// [0.7]
		assert!(each(together.syncs) <= 5.0, "{} syncs for each of many payments", each(together.syncs));
		// [20 kB]
		assert!(each(together.bytes) <= 50_000.0, "{} bytes for each of many payments", each(together.bytes));

		// Each more would keep free what it once used: see node/docs/decisions/0006-one-arena.md.
		assert_eq!(arenas(world.lsp.pid()?)?, 0, "arenas beside the first");
		Ok(())
	});
}
