//! Witnesses: other sources of the chain that the backend is compared with every few minutes, by block hashes only.
//!
//! A witness that is far ahead, or has another block where ours is buried already, stops sales: one of the two shows a chain
//! that nobody else mines on. A witness that does not answer proves nothing: the operator is told, sales go on.

use super::super::wallet::Wallet;
use super::asker::Asker;
use super::electrum::Line;
use super::pace::Pace;
use super::rpc::Rpc;
use super::{ChainConfig, ChainError, Trouble, shown};
use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network, OutPoint};
use serde_json::json;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One comparison at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Hashes are compared this far below the lower of the two tips: the tips themselves may differ for a while.
const DEPTH: u32 = 2;
/// A witness further ahead than this sees blocks that are kept from us; one block is just found, a second is bad luck.
const MAX_LEAD: u32 = 3;
/// A witness further behind than this is of no use.
const MAX_LAG: u32 = 6;
/// What is believed only when it is seen so many times in a row: a block may come in between.
const IN_A_ROW: u32 = 2;

/// What all witnesses found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
	/// Why nothing is to be sold.
	pub(super) stop: Option<String>,
	/// Witnesses that are of no use.
	pub(super) troubles: Vec<Trouble>,
}

/// One source besides the backend.
pub(super) struct Witness {
	url: String,
	source: Source,
	/// The last finding, and how often in a row its kind was seen.
	last: (Finding, u32),
	/// What is held against the chain or the witness until it is found to agree.
	standing: Option<Finding>,
}

pub(super) enum Source {
	Esplora(Box<Asker>),
	Electrum(Arc<Line>),
	Bitcoind(Box<Rpc>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
	Agrees,
	/// By so many blocks.
	Ahead(u32),
	/// By so many blocks.
	Behind(u32),
	Differs {
		height: u32,
		ours: BlockHash,
		theirs: BlockHash,
	},
	Failed(String),
}

impl Witness {
	/// Nothing is asked yet.
	pub(super) fn new(cfg: ChainConfig) -> Result<Witness, ChainError> {
		let (url, source) = match cfg {
			ChainConfig::Bitcoind { url, auth, way } => {
				(shown(&url), Source::Bitcoind(Box::new(Rpc::new(&url, auth, way)?)))
			}
			ChainConfig::Electrum { url, way } => {
				let line = Line::new(&url, way)?;
				(line.url(), Source::Electrum(line))
			}
			ChainConfig::Esplora { urls, way } => {
				let url = urls.first().ok_or_else(|| ChainError::Config("a witness without a URL".into()))?;
				let client = Asker::new(url, way, |builder| builder.timeout(PATIENCE).max_retries(0))?;
				(shown(url), Source::Esplora(Box::new(client)))
			}
		};
		Ok(Witness { url, source, last: (Finding::Agrees, 0), standing: None })
	}

	/// Only where it is.
	pub(super) fn into_source(self) -> Source {
		self.source
	}

	/// Compares once.
	async fn look(&self, wallet: &Wallet, network: Network) -> Finding {
		match tokio::time::timeout(PATIENCE, self.compare(wallet, network)).await {
			Ok(Ok(finding)) => finding,
			Ok(Err(cause)) => Finding::Failed(cause),
			Err(_) => Finding::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
		}
	}

	async fn compare(&self, wallet: &Wallet, network: Network) -> Result<Finding, String> {
		if self.source.hash(0).await? != genesis_block(network).block_hash() {
			return Err("it is on another network".into());
		}
		let theirs = self.source.height().await?;
		// Looked at after the answer, so that ours is not the older one.
		let (ours, _) = wallet.tip();
		let (height, hash) = wallet.block_at_or_below(ours.min(theirs).saturating_sub(DEPTH));
		let found = self.source.hash(height).await?;
		Ok(if found != hash {
			Finding::Differs { height, ours: hash, theirs: found }
		} else if theirs > ours.saturating_add(MAX_LEAD) {
			Finding::Ahead(theirs - ours)
		} else if ours > theirs.saturating_add(MAX_LAG) {
			Finding::Behind(ours - theirs)
		} else {
			Finding::Agrees
		})
	}

	/// Takes a finding. What stops sales stays until the witness agrees: that it went away afterwards clears nothing.
	/// Gives whether it has to be confirmed soon.
	fn take(&mut self, finding: Finding) -> bool {
		let same = std::mem::discriminant(&self.last.0) == std::mem::discriminant(&finding);
		let seen = if same { self.last.1.saturating_add(1) } else { 1 };
		self.last = (finding.clone(), seen);
		let stopped = self.standing.as_ref().is_some_and(Finding::stops);
		match finding {
			Finding::Agrees => self.standing = None,
			_ if seen < IN_A_ROW => return true,
			finding if !stopped || finding.stops() => self.standing = Some(finding),
			_ => {}
		}
		false
	}

	fn stop(&self) -> Option<String> {
		let finding = self.standing.as_ref().filter(|finding| finding.stops())?;
		let what = match finding {
			Finding::Ahead(blocks) => format!("is {blocks} blocks ahead of the backend"),
			Finding::Differs { height, ours, theirs } => {
				format!("has block {theirs} at height {height}, where the backend has {ours}")
			}
			_ => return None,
		};
		Some(format!(
			"the witness {} {what}: one of the two is cut off or lies. Compare with a third; take the wrong one out of [chain]",
			self.url
		))
	}

	fn trouble(&self) -> Option<Trouble> {
		let text = match self.standing.as_ref()? {
			Finding::Behind(blocks) => format!("the witness {} is {blocks} blocks behind the backend", self.url),
			Finding::Failed(cause) => format!("the witness {} cannot be asked: {cause}", self.url),
			_ => return None,
		};
		Some(Trouble { subject: self.url.clone(), text })
	}
}

impl Finding {
	fn stops(&self) -> bool {
		matches!(self, Finding::Ahead(_) | Finding::Differs { .. })
	}
}

impl Drop for Source {
	fn drop(&mut self) {
		if let Source::Electrum(line) = self {
			// A thread that waits for an answer would keep the runtime from ending.
			line.end();
		}
	}
}

impl Source {
	pub(super) async fn height(&self) -> Result<u32, String> {
		match self {
			Source::Electrum(line) => line.height().await.map_err(|e| e.to_string()),
			Source::Esplora(client) => client.get_height().await.map_err(|e| e.to_string()),
			Source::Bitcoind(rpc) => {
				let height = rpc.call("getblockcount", json!([])).await.map_err(|e| e.to_string())?;
				height.as_u64().and_then(|height| u32::try_from(height).ok()).ok_or_else(|| "no height".into())
			}
		}
	}

	/// Is this output in the chain's set of unspent ones?
	pub(super) async fn is_unspent(&self, outpoint: &OutPoint) -> Result<bool, String> {
		match self {
			Source::Electrum(line) => line.is_unspent(*outpoint).await.map_err(|e| e.to_string()),
			Source::Esplora(client) => {
				let status = client.get_output_status(&outpoint.txid, outpoint.vout.into()).await;
				Ok(status.map_err(|e| e.to_string())?.is_some_and(|status| !status.spent))
			}
			Source::Bitcoind(rpc) => {
				let output = rpc.call("gettxout", json!([outpoint.txid, outpoint.vout, false])).await;
				Ok(!output.map_err(|e| e.to_string())?.is_null())
			}
		}
	}

	pub(super) async fn hash(&self, height: u32) -> Result<BlockHash, String> {
		match self {
			Source::Electrum(line) => line.hash(height).await.map_err(|e| e.to_string()),
			Source::Esplora(client) => client.get_block_hash(height).await.map_err(|e| e.to_string()),
			Source::Bitcoind(rpc) => {
				let hash = rpc.call("getblockhash", json!([height])).await.map_err(|e| e.to_string())?;
				let hash = hash.as_str().and_then(|hash| BlockHash::from_str(hash).ok());
				hash.ok_or_else(|| "a malformed hash".into())
			}
		}
	}
}

/// Compares with all witnesses, for ever. At most as many requests at once as there are witnesses.
pub(super) async fn watch(
	mut witnesses: Vec<Witness>,
	wallet: Arc<Wallet>,
	network: Network,
	pace: Pace,
	verdict: watch::Sender<Verdict>,
) {
	if witnesses.is_empty() {
		return std::future::pending().await;
	}
	loop {
		let looks = witnesses.iter().map(|witness| witness.look(&wallet, network));
		let findings = futures::future::join_all(looks).await;
		let mut unsure = false;
		for (witness, finding) in witnesses.iter_mut().zip(findings) {
			unsure |= witness.take(finding);
		}
		let found = Verdict {
			stop: witnesses.iter().find_map(Witness::stop),
			troubles: witnesses.iter().filter_map(Witness::trouble).collect(),
		};
		verdict.send_if_modified(|known| {
			let news = *known != found;
			*known = found;
			news
		});
		tokio::time::sleep(if unsure { pace.poll } else { pace.witness }).await;
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tor::Way;
	use bitcoin::hashes::Hash;

	fn witness() -> Witness {
		Witness::new(ChainConfig::Esplora {
			urls: vec!["https://user:secret@example.org/api".into()],
			way: Way::default(),
		})
		.unwrap()
	}

	fn differs(n: u8) -> Finding {
		let hash = |n| BlockHash::from_byte_array([n; 32]);
		Finding::Differs { height: 7, ours: hash(0), theirs: hash(n) }
	}

	#[test]
	fn r20_another_chain_is_believed_at_the_second_look_and_until_they_agree() {
		let mut witness = witness();
		assert!(witness.take(differs(1)), "looked at again soon");
		assert_eq!(witness.stop(), None);
		assert!(!witness.take(differs(2)));
		let stop = witness.stop().unwrap();
		assert!(stop.contains("at height 7") && !stop.contains("secret"), "{stop}");
		for _ in 0..3 {
			witness.take(Finding::Failed("gone".into()));
		}
		assert!(witness.stop().is_some(), "that it went away clears nothing");
		assert!(!witness.take(Finding::Agrees));
		assert_eq!((witness.stop(), witness.trouble()), (None, None));
	}

	#[test]
	fn r20_a_block_that_came_in_between_stops_nothing() {
		let mut witness = witness();
		for _ in 0..3 {
			witness.take(Finding::Ahead(5));
			witness.take(Finding::Agrees);
		}
		assert_eq!(witness.stop(), None);
	}

	#[test]
	fn r20_a_witness_that_fails_or_lags_is_told_and_stops_nothing() {
		for finding in [Finding::Failed("no route".into()), Finding::Behind(9)] {
			let mut witness = witness();
			assert!(witness.take(finding.clone()));
			assert_eq!(witness.trouble(), None);
			witness.take(finding);
			assert_eq!(witness.stop(), None);
			assert_eq!(witness.trouble().unwrap().subject, "https://example.org/api");
			witness.take(Finding::Agrees);
			assert_eq!(witness.trouble(), None);
		}
	}
}
