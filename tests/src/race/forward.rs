//! Payments over the LSP: how many a second, how long each takes, and what it costs.

use super::crowd::Crowd;
use super::lsp::Lsp;
use super::report::{Sample, percentile};
use anyhow::Result;
use futures::future::try_join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Amount of each payment: above every dust limit, so that its HTLC is in the commitment transactions.
pub const MSAT: u64 = 1_000_000;

/// How many payments are enough with so many at once.
fn enough(concurrency: usize, factor: f64, slow: bool) -> usize {
	let (least, each) = if slow { (6, 2) } else { (20, 6) };
	let count = (concurrency * each).max(least).min(600);
	((count as f64 * factor) as usize).max(concurrency).max(3)
}

/// Payments, this many at once.
///
/// # Errors
/// One of them fails.
pub async fn forward(
	lsp: &Lsp,
	crowd: &Crowd,
	concurrency: usize,
	factor: f64,
	slow: bool,
	sample: &mut Sample,
) -> Result<()> {
	let count = enough(concurrency, factor, slow);
	let bills = try_join_all((0..count).map(|n| async move { crowd.client(n).bill(MSAT).await })).await?;
	lsp.quiet().await?;
	let (next, before, begun) = (AtomicUsize::new(0), lsp.counts()?, Instant::now());
	// A slot keeps to its payer, so that none has more under way than its channel takes.
	let slot = async |slot: usize| {
		let mut times = Vec::new();
		loop {
			let n = next.fetch_add(1, Ordering::Relaxed);
			let Some(bill) = bills.get(n) else { return Ok::<_, anyhow::Error>(times) };
			times.push(crowd.payer(slot).pay(bill).await?);
		}
	};
	let times = try_join_all((0..concurrency).map(slot)).await?;
	let took = begun.elapsed();
	lsp.quiet().await?;
	let cost = lsp.counts()? - before;
	let mut times: Vec<Duration> = times.into_iter().flatten().collect();
	times.sort();
	let of = |sum: f64| sum / count as f64;
	sample.note("payments/s", count as f64 / took.as_secs_f64());
	for (name, share) in [("p50 ms", 0.5), ("p95 ms", 0.95), ("p99 ms", 0.99)] {
		sample.note(name, percentile(&times, share));
	}
	sample.note("CPU ms", of(cost.cpu_ms));
	sample.note("syncs", of(cost.syncs));
	sample.note("kB written", of(cost.bytes) / 1000.0);
	sample.note("log bytes", of(cost.log_bytes));
	Ok(())
}
