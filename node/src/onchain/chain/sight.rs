//! One look at the chain, for who only compares: no node is led by it.

use super::super::wallet::Wallet;
use super::ChainConfig;
use super::witness::Witness;
use bitcoin::constants::genesis_block;
use bitcoin::{Network, OutPoint};
use std::time::Duration;

/// All of it at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Coins that are looked up, the first ones.
const MAX_COINS: usize = 200;

/// The backend beside the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSight {
	/// The backend's height.
	pub height: u32,
	/// The wallet's.
	pub ours: u32,
	/// Where the two have different blocks.
	pub differs: Option<u32>,
	/// Confirmed coins of the wallet that are spent on the chain, or not on it.
	pub gone: Vec<OutPoint>,
	/// How many were looked up.
	pub looked_at: usize,
}

/// Compares the wallet's best block and its confirmed coins with the backend's.
///
/// # Errors
/// Why the backend could not be asked.
pub async fn chain_sight(config: ChainConfig, wallet: &Wallet, network: Network) -> Result<ChainSight, String> {
	let source = Witness::new(config).map_err(|e| e.to_string())?.into_source();
	let look = async {
		if source.hash(0).await? != genesis_block(network).block_hash() {
			return Err("it is on another network".to_owned());
		}
		let height = source.height().await?;
		let (ours, hash) = wallet.tip();
		let (at, hash) = if ours <= height { (ours, hash) } else { wallet.block_at_or_below(height) };
		let differs = (source.hash(at).await? != hash).then_some(at);
		let coins = wallet.utxos().into_iter().filter(|coin| coin.confirmations > 0).take(MAX_COINS);
		let (mut gone, mut looked_at) = (Vec::new(), 0);
		for coin in coins {
			looked_at += 1;
			if !source.is_unspent(&coin.outpoint).await? {
				gone.push(coin.outpoint);
			}
		}
		Ok(ChainSight { height, ours, differs, gone, looked_at })
	};
	let timed_out = |_| format!("no answer within {} s", PATIENCE.as_secs());
	tokio::time::timeout(PATIENCE, look).await.map_err(timed_out)?
}
