//! What an LSP costs when nothing is sold: its start, its memory, blocks that it missed, and minutes in which nothing happens.

use super::crowd::Crowd;
use super::lsp::Lsp;
use super::meter::resident_kb;
use super::report::Sample;
use crate::Bitcoind;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Blocks that are mined while it is away.
const MISSED: u32 = 1_000;
/// Blocks of which each is looked at.
const BLOCKS: u32 = 10;

/// A stop and a start.
///
/// # Errors
/// It does not come back.
pub async fn restart(lsp: &Lsp, crowd: &Crowd, sample: &mut Sample) -> Result<()> {
	lsp.stop().await?;
	let took = lsp.resume().await?;
	sample.note("ready ms", took.as_secs_f64() * 1000.0);
	sample.note("CPU ms", lsp.counts()?.cpu_ms);
	crowd.come_back(&lsp.uri()).await
}

/// A start a thousand blocks later.
///
/// # Errors
/// It does not come back.
pub async fn catch_up(lsp: &Lsp, crowd: &Crowd, chain: &Bitcoind, sample: &mut Sample) -> Result<()> {
	lsp.stop().await?;
	chain.mine(MISSED).await?;
	let begun = Instant::now();
	lsp.resume().await?;
	lsp.in_step(chain).await?;
	sample.note("in step ms", begun.elapsed().as_secs_f64() * 1000.0);
	lsp.quiet().await?;
	// Processor time starts anew with the process.
	sample.note("CPU ms", lsp.counts()?.cpu_ms);
	crowd.come_back(&lsp.uri()).await
}

/// Its memory, now.
///
/// # Errors
/// It does not run.
pub fn memory(lsp: &Lsp, what: &str, sample: &mut Sample) -> Result<()> {
	let (all, own) = resident_kb(lsp.pid()?)?;
	sample.note(&format!("RSS {what} MB"), all as f64 / 1024.0);
	sample.note(&format!("own {what} MB"), own as f64 / 1024.0);
	Ok(())
}

/// Looks at it for a while in which nobody asks anything of it; per hour.
///
/// # Errors
/// It does not run.
pub async fn idle(lsp: &Lsp, length: Duration, sample: &mut Sample) -> Result<()> {
	lsp.quiet().await?;
	let before = lsp.counts()?;
	tokio::time::sleep(length).await;
	let cost = lsp.counts()? - before;
	let hourly = 3600.0 / length.as_secs_f64();
	sample.note("syncs/h", cost.syncs * hourly);
	sample.note("kB/h", cost.bytes * hourly / 1000.0);
	sample.note("CPU ms/h", cost.cpu_ms * hourly);
	sample.note("log bytes/h", cost.log_bytes * hourly);
	memory(lsp, "idle", sample)
}

/// Blocks, one after another, each when it knows the one before; for each.
///
/// # Errors
/// It does not follow.
pub async fn blocks(lsp: &Lsp, chain: &Bitcoind, sample: &mut Sample) -> Result<()> {
	lsp.quiet().await?;
	let before = lsp.counts()?;
	for _ in 0..BLOCKS {
		chain.mine(1).await?;
		lsp.in_step(chain).await?;
	}
	lsp.quiet().await?;
	let cost = lsp.counts()? - before;
	let each = |sum: f64| sum / f64::from(BLOCKS);
	sample.note("CPU ms", each(cost.cpu_ms));
	sample.note("syncs", each(cost.syncs));
	sample.note("kB written", each(cost.bytes) / 1000.0);
	Ok(())
}
