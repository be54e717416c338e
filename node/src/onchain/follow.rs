//! How the wallet follows the chain: by blocks and mempool (bitcoind) or by asking for its scripts (Esplora).

use super::keep::Folder;
use super::wallet::{Wallet, WalletError};
use bdk_wallet::chain::spk_client::{FullScanRequest, FullScanResponse, SyncRequest, SyncResponse};
use bdk_wallet::chain::{BlockId, ConfirmationBlockTime, TxUpdate};
use bdk_wallet::{KeychainKind, Update};
use bitcoin::block::Header;
use bitcoin::{Address, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use lightning::chain::{BlockLocator, Listen, transaction::TransactionData};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

/// Addresses watched at every look, newest first, besides those that [`Wallet::await_payments`] names.
const HOT: usize = 20;
/// Addresses watched at every block, newest first.
const WARM: usize = 100;
/// Row that asks for a scan of a restored seed, below the wallet's folder.
pub(crate) const SCAN_KEY: &str = "full_scan";

/// Scripts of each keychain that bitcoind is asked for when a seed is restored.
const RESTORED: u32 = 1_000;

/// A mined transaction of ours.
pub(super) struct Mined {
	pub tx: Transaction,
	pub height: u32,
	pub hash: BlockHash,
	/// The block's time.
	pub time: u32,
}

/// A script's place in the wallet.
pub(super) type Index = (KeychainKind, u32);

/// How many of the wallet's scripts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
	/// Addresses that wait for a payment, and transactions that wait for a block.
	Hot,
	/// And all coins.
	Warm,
	/// Everything that was ever given out.
	All,
}

impl Wallet {
	/// The wallet's best block.
	pub fn best_block(&self) -> BlockLocator {
		let tip = self.lock().latest_checkpoint();
		let mut best = BlockLocator::new(tip.hash(), tip.height());
		for earlier in tip.iter().skip(1) {
			let back = (tip.height() - earlier.height()) as usize;
			match best.previous_blocks.get_mut(back - 1) {
				Some(slot) => *slot = Some(earlier.hash()),
				None => break,
			}
		}
		best
	}

	/// A wallet that has seen nothing starts at `block`: nothing before it is scanned. Does nothing to an older wallet.
	pub(super) fn set_birthday(&self, block: BlockLocator) {
		let genesis = self.lock().latest_checkpoint();
		if genesis.height() != 0 || block.height == 0 {
			return;
		}
		// The blocks before it let the wallet follow a reorganisation that goes back behind its birth.
		let ids = (0..block.height).rev().zip(block.previous_blocks).map_while(|(height, hash)| Some((height, hash?)));
		let ids = ids.filter(|(height, _)| *height > 0).chain([(block.height, block.block_hash)]);
		let chain = ids.fold(genesis, |chain, (height, hash)| chain.insert(BlockId { height, hash }));
		let update = Update { chain: Some(chain), ..Default::default() };
		if let Err(e) = self.change(|bdk| bdk.apply_update(update)) {
			tracing::error!("the wallet's first block could not be set: {e}");
		}
	}

	/// For a seed that was used before: the next look at an Esplora server scans for all its addresses.
	pub async fn request_full_scan(&self) {
		self.keep().write(Folder::Wallet, SCAN_KEY, vec![1]);
		self.save().await;
	}

	pub(super) async fn wants_full_scan(&self) -> Result<bool, WalletError> {
		Ok(self.keep().read(Folder::Wallet, SCAN_KEY).await?.is_some())
	}

	pub(super) fn full_scan_request(&self) -> FullScanRequest<KeychainKind> {
		let at = self.tick();
		self.lock().start_full_scan_at(at).build()
	}

	pub(super) async fn apply_full_scan(&self, found: FullScanResponse<KeychainKind>) -> Result<(), WalletError> {
		self.apply(Update::from(found))?;
		self.keep().remove(Folder::Wallet, SCAN_KEY);
		self.save().await;
		Ok(())
	}

	/// The first scripts of both keychains, for a seed of which nobody knows how many were given out.
	pub(super) fn first_scripts(&self) -> Vec<(Index, ScriptBuf)> {
		let bdk = self.lock();
		let of = |keychain| (0..RESTORED).map(move |index| (keychain, index));
		let all = of(KeychainKind::External).chain(of(KeychainKind::Internal));
		all.map(|(keychain, index)| ((keychain, index), bdk.peek_address(keychain, index).script_pubkey())).collect()
	}

	/// These pay to some of [`Wallet::first_scripts`], and are all that is unspent. Ends the scan.
	pub(super) async fn take_mined(&self, mined: Vec<Mined>) -> Result<(), WalletError> {
		let places: HashMap<ScriptBuf, Index> =
			self.first_scripts().into_iter().map(|(index, script)| (script, index)).collect();
		let mut update = Update { chain: Some(self.lock().latest_checkpoint()), ..Default::default() };
		for Mined { tx, height, hash, time } in mined {
			for (keychain, index) in tx.output.iter().filter_map(|output| places.get(&output.script_pubkey)) {
				let last = update.last_active_indices.entry(*keychain).or_default();
				*last = (*last).max(*index);
			}
			let block_id = BlockId { height, hash };
			update.chain = update.chain.map(|chain| chain.insert(block_id));
			let anchor = ConfirmationBlockTime { block_id, confirmation_time: time.into() };
			update.tx_update.anchors.insert((anchor, tx.compute_txid()));
			update.tx_update.txs.push(Arc::new(tx));
		}
		self.apply(update)?;
		self.keep().remove(Folder::Wallet, SCAN_KEY);
		self.save().await;
		Ok(())
	}

	/// The addresses that wait for a payment, and no others: asked for at every look, however many were given out since.
	pub fn await_payments(&self, addresses: impl IntoIterator<Item = String>) {
		let script = |address: String| Some(Address::from_str(&address).ok()?.assume_checked().script_pubkey());
		let scripts = addresses.into_iter().filter_map(script).collect();
		*self.awaited.lock().expect("no code panics while it holds this lock") = scripts;
	}

	fn awaited(&self) -> Vec<ScriptBuf> {
		self.awaited.lock().expect("no code panics while it holds this lock").clone()
	}

	pub(super) fn sync_request(&self, scope: Scope) -> SyncRequest<Index> {
		let at = self.tick();
		let bdk = self.lock();
		let tip = bdk.latest_checkpoint();
		let scripts = scripts(&bdk, scope, &self.awaited());
		let wanted: HashSet<ScriptBuf> = scripts.iter().map(|(_, script)| script.clone()).collect();
		let graph = bdk.tx_graph();
		let expected = graph.list_expected_spk_txids(bdk.local_chain(), tip.block_id(), bdk.spk_index(), ..);
		let expected: Vec<(ScriptBuf, Txid)> =
			expected.filter(|(script, txid)| wanted.contains(script) && !self.is_held(txid)).collect();
		SyncRequest::builder_at(at).chain_tip(tip).spks_with_indexes(scripts).expected_spk_txids(expected).build()
	}

	pub(super) fn apply_sync(&self, found: SyncResponse) -> Result<(), WalletError> {
		self.apply(Update::from(found))
	}

	fn apply(&self, mut update: Update) -> Result<(), WalletError> {
		update.tx_update.evicted_ats.retain(|(txid, _)| !self.is_held(txid));
		let found = is_news(&update.tx_update);
		let staged = self.change(|bdk| bdk.apply_update(update).map(|()| bdk.staged().is_some()));
		let staged = staged.map_err(|e| WalletError::Build(format!("the server's chain does not fit ours: {e}")))?;
		if found && staged {
			self.has_news();
		}
		Ok(())
	}

	/// These are in the mempool (or on their way to it). Those that are none of ours are ignored.
	pub(super) fn saw_unconfirmed(&self, txs: Vec<Transaction>) {
		let at = self.tick();
		let changed = self.change(|bdk| {
			bdk.apply_unconfirmed_txs(txs.into_iter().map(|tx| (tx, at)));
			bdk.staged().is_some()
		});
		if changed {
			self.has_news();
		}
	}

	/// Of our unconfirmed transactions, those that are not in `mempool` were evicted, unless we are sending them.
	pub(super) fn saw_mempool(&self, mempool: impl Fn(&Txid) -> bool) {
		let gone: Vec<Txid> = {
			let bdk = self.lock();
			let unconfirmed = bdk.transactions().filter(|tx| !tx.chain_position.is_confirmed());
			unconfirmed.map(|tx| tx.tx_node.txid).filter(|txid| !mempool(txid) && !self.is_held(txid)).collect()
		};
		if gone.is_empty() {
			return;
		}
		let at = self.tick();
		self.change(|bdk| bdk.apply_evicted_txs(gone.into_iter().map(|txid| (txid, at))));
		self.has_news();
	}

	/// Unconfirmed payments of others to us whose feerate cannot be computed, with the outputs that it would take.
	pub(super) fn missing_prevouts(&self) -> Vec<OutPoint> {
		let bdk = self.lock();
		let unconfirmed = bdk.transactions().filter(|tx| !tx.chain_position.is_confirmed());
		let inputs = unconfirmed.flat_map(|tx| tx.tx_node.tx.input.clone());
		inputs.map(|input| input.previous_output).filter(|o| bdk.tx_graph().get_txout(*o).is_none()).collect()
	}

	pub(super) fn learn_prevout(&self, outpoint: OutPoint, output: TxOut) {
		self.change(|bdk| bdk.insert_txout(outpoint, output));
		self.has_news();
	}

	/// The highest block at or below `height` that the wallet remembers, as (height, hash). It remembers the newest ones all.
	pub(super) fn block_at_or_below(&self, height: u32) -> (u32, BlockHash) {
		let tip = self.lock().latest_checkpoint();
		let block = tip.floor_at(height).unwrap_or(tip);
		(block.height(), block.hash())
	}

	/// The tip as (height, hash).
	pub(super) fn tip(&self) -> (u32, BlockHash) {
		let tip = self.lock().latest_checkpoint();
		(tip.height(), tip.hash())
	}
}

impl Listen for Wallet {
	fn block_connected(&self, block: &Block, height: u32) {
		let before = BlockId { height: height.saturating_sub(1), hash: block.header.prev_blockhash };
		let applied = self.change(|bdk| bdk.apply_block_connected_to(block, height, before));
		if let Err(e) = applied {
			tracing::error!(height, "the wallet could not take a block: {e}");
		}
		self.has_news();
	}

	fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
		let txdata = txdata.iter().map(|(_, tx)| (*tx).clone()).collect();
		self.block_connected(&Block { header: *header, txdata }, height);
	}

	/// BDK drops a stale branch when it is given the first block of the new one.
	fn blocks_disconnected(&self, _fork_point: BlockLocator) {}
}

fn scripts(bdk: &bdk_wallet::Wallet, scope: Scope, awaited: &[ScriptBuf]) -> Vec<(Index, ScriptBuf)> {
	let index = bdk.spk_index();
	if scope == Scope::All {
		return index.revealed_spks(..).collect();
	}
	let newest = |keychain: KeychainKind, count: usize| {
		let revealed: Vec<(Index, ScriptBuf)> = index.revealed_spks(..).filter(|((k, _), _)| *k == keychain).collect();
		revealed[revealed.len().saturating_sub(count)..].to_vec()
	};
	let mut wanted = newest(KeychainKind::External, if scope == Scope::Hot { HOT } else { WARM });
	if scope == Scope::Warm {
		wanted.extend(newest(KeychainKind::Internal, HOT));
	}
	wanted.extend(awaited.iter().filter_map(|script| Some((*index.index_of_spk(script.clone())?, script.clone()))));
	let outputs = bdk.list_output().filter(|output| match scope {
		Scope::Hot => !output.chain_position.is_confirmed(),
		_ => !output.is_spent || !output.chain_position.is_confirmed(),
	});
	wanted.extend(outputs.map(|o| ((o.keychain, o.derivation_index), o.txout.script_pubkey)));
	wanted.sort();
	wanted.dedup();
	wanted
}

fn is_news<A>(update: &TxUpdate<A>) -> bool {
	!update.txs.is_empty() || !update.anchors.is_empty() || !update.evicted_ats.is_empty()
}
