//! The on-chain wallet: BDK (BIP86, taproot key spends) behind a mutex that is never held across an await.
//!
//! Every change is enqueued in the store before the lock is released, so the order on the disk is that in memory. Where a
//! caller must not go on without it (an address, a locked coin, a refund), it is waited for.

use super::broadcast::{Broadcaster, Standing};
use super::coins::{self, Coin, NoPlan, Plan, Stay, Want};
use super::fees::Fees;
use super::keep::{Folder, Keep};
use crate::config::network_name;
use bdk_wallet::chain::{BlockId, ChainPosition};
use bdk_wallet::signer::SignersContainer;
use bdk_wallet::template::{Bip86, DescriptorTemplate};
use bdk_wallet::{ChangeSet, KeychainKind, LocalOutput, SignOptions};
use bitcoin::bip32::Xpriv;
use bitcoin::consensus::encode::{deserialize, deserialize_hex, serialize_hex};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, FeeRate, Network, OutPoint, Psbt, Script, ScriptBuf, Transaction, Txid};
use inlet_lsp::book::Received;
use inlet_lsp::ledger::share_of;
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_storage::Store;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

mod rearrange;
mod refund;
mod splice;

pub use refund::{Bumped, Refunded};
pub use splice::Spliced;

/// Change and destination scripts handed out and not used yet; beyond that they are handed out again.
pub(crate) const MAX_UNUSED_SCRIPTS: usize = 200;
/// How long [`Wallet::send`] waits for the backend's verdict. Without one the transaction is sent on and on.
const VERDICT: Duration = Duration::from_secs(10);
/// Coinbase outputs are spendable after this many confirmations.
const MATURITY: u32 = 100;
/// Confirmations after which a payment is final for everybody (bLIP-51 demands no more).
const FINAL: u32 = 6;

/// So many blocks the wallet remembers all, to follow a reorganisation.
const REMEMBERED: u32 = 2016;

/// Confirmations after which it is not asked any more for whom a funding transaction was made: whoever waits for its channel
/// has looked long before, were it at the start after a crash that came in between.
const OWNED: u32 = 2016;

/// Why the wallet did not do it.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
	/// Ask for less, or send money here.
	#[error("not enough confirmed coins: {needed} needed, {available} there, of which {reserved} must stay")]
	Short {
		/// Amount and fee.
		needed: Amount,
		/// Confirmed coins that nothing else holds.
		available: Amount,
		/// What must be left.
		reserved: Amount,
	},
	/// Ask for more: the network does not relay so small an output.
	#[error("{amount} is below {limit}, the least that the network relays")]
	Dust {
		/// What the recipient would get.
		amount: Amount,
		/// The least.
		limit: Amount,
	},
	/// Ask for an address of the right network.
	#[error("{address} is not an address of {}", network_name(*network))]
	WrongNetwork {
		/// As given.
		address: String,
		/// Ours.
		network: Network,
	},
	/// The chain backend refused the transaction; its coins are free again. A higher feerate may help.
	#[error("the chain backend refused the transaction: {0}")]
	Refused(String),
	/// The payment that is to be given back is not in the chain (now).
	#[error("the payment that is to be given back is not confirmed any more")]
	Gone,
	/// The store cannot be read.
	#[error("the wallet could not be read: {0}")]
	Store(#[from] io::Error),
	/// What is stored does not belong to this seed or network: check the data directory.
	#[error("the stored wallet cannot be used: {0}")]
	Load(String),
	/// A bug, or a stored row that is damaged.
	#[error("the transaction could not be made: {0}")]
	Build(String),
}

impl From<NoPlan> for WalletError {
	fn from(no: NoPlan) -> Self {
		match no {
			NoPlan::Short { needed, available, reserved } => WalletError::Short { needed, available, reserved },
			NoPlan::Dust { amount, limit } => WalletError::Dust { amount, limit },
		}
	}
}

/// What the wallet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
	/// Confirmed and spendable.
	pub confirmed: Amount,
	/// Unconfirmed change of our own transactions.
	pub trusted_pending: Amount,
	/// Unconfirmed payments of others.
	pub untrusted_pending: Amount,
	/// Mined coins that are not mature.
	pub immature: Amount,
}

/// A coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utxo {
	/// Which output.
	pub outpoint: OutPoint,
	/// Its value.
	pub value: Amount,
	/// 0 in the mempool.
	pub confirmations: u32,
	/// The address that it pays to.
	pub address: String,
}

/// A transaction of the wallet.
#[derive(Clone, Debug)]
pub struct WalletView {
	/// Which.
	pub txid: Txid,
	/// In which block it is.
	pub height: Option<u32>,
	/// What it spends of the wallet.
	pub sent: Amount,
	/// What it pays to the wallet.
	pub received: Amount,
	/// What the miner gets, if all of its inputs are known.
	pub fee: Option<Amount>,
	/// All of it.
	pub tx: Arc<Transaction>,
}

impl WalletView {
	/// What it changes, in millisatoshis.
	pub fn delta_msat(&self) -> i64 {
		let msat = |amount: Amount| i64::try_from(amount.to_sat().saturating_mul(1000)).unwrap_or(i64::MAX);
		msat(self.received).saturating_sub(msat(self.sent))
	}
}

/// A funding transaction whose coins are locked until [`Wallet::release`] or its confirmation.
#[derive(Clone, Debug)]
pub struct Funded {
	/// Signed, not broadcast.
	pub tx: Transaction,
	/// What the miner gets.
	pub fee: Amount,
}

/// What names a splice.
#[derive(Clone, Copy, Debug)]
pub struct SpliceTerms {
	/// Marks it.
	pub mark: u128,
	/// With whom.
	pub peer: PublicKey,
	/// LDK's id of the channel.
	pub channel_id: [u8; 32],
}

/// A transaction that is on its way.
#[derive(Clone, Debug)]
pub struct Sent {
	/// Signed and queued for broadcast.
	pub tx: Transaction,
	/// What the miner gets.
	pub fee: Amount,
	/// The backend has not said yet that it took it: it is sent on and on.
	pub queued: bool,
}

/// The wallet. Made by [`Wallet::open`].
pub struct Wallet {
	pub(super) network: Network,
	pub(super) bdk: Mutex<bdk_wallet::Wallet>,
	signers: Vec<SignersContainer>,
	pub(super) broadcaster: Arc<Broadcaster>,
	fees: Arc<Fees>,
	keep: Keep,
	/// Funding transactions whose coins are locked: never taken for evicted.
	locked: Mutex<BTreeMap<Txid, FundingRow>>,
	/// See [`Wallet::verdicts`].
	verdicts: Mutex<()>,
	/// Coins on their way into channels that are there. Taken after BDK's lock, if both are.
	spliced: Mutex<splice::Splices>,
	/// One refund at a time, so that a marker is looked up and written without another in between.
	refunding: tokio::sync::Mutex<()>,
	/// BDK orders sightings and evictions by time: strictly rising seconds.
	clock: AtomicU64,
	changed: watch::Sender<u64>,
	/// See [`Wallet::await_payments`].
	pub(super) awaited: Mutex<Vec<ScriptBuf>>,
}

impl Wallet {
	/// Opens the wallet of this key, or makes it. Its coins that were locked stay locked.
	///
	/// # Errors
	/// [`WalletError::Load`] if the stored wallet is another's, [`WalletError::Store`] if it cannot be read.
	pub async fn open(
		store: Store,
		xprv: Xpriv,
		network: Network,
		fees: Arc<Fees>,
		broadcaster: Arc<Broadcaster>,
	) -> Result<Arc<Wallet>, WalletError> {
		let keep = Keep(store);
		let bdk = load_or_create(keep.load_wallet().await?, xprv, network)?;
		let signers = [KeychainKind::External, KeychainKind::Internal].map(|keychain| signers(&bdk, xprv, keychain));
		let signers = signers.into_iter().collect::<Result<Vec<_>, _>>()?;
		let clock = AtomicU64::new(latest_sighting(&bdk));
		let mut locked = BTreeMap::new();
		for (key, bytes) in keep.all(Folder::Funding).await? {
			let row = FundingRow::read(&bytes).map_err(|e| WalletError::Load(format!("row {key}: {e}")))?;
			locked.insert(row.tx.compute_txid(), row);
		}
		let spliced = Mutex::new(splice::load(&keep).await?);
		let (changed, _) = watch::channel(0);
		let wallet = Arc::new(Wallet {
			network,
			bdk: Mutex::new(bdk),
			signers,
			broadcaster,
			fees,
			keep,
			locked: Mutex::new(locked),
			verdicts: Mutex::default(),
			spliced,
			refunding: tokio::sync::Mutex::default(),
			clock,
			changed,
			awaited: Mutex::default(),
		});
		wallet.reapply_own();
		wallet.watch_splices();
		wallet.save().await;
		wallet.hear_broadcasts();
		Ok(wallet)
	}

	/// A fresh address, never given out before. It is persisted before it is returned.
	///
	/// # Errors
	/// None today.
	pub async fn new_address(&self) -> Result<Address, WalletError> {
		let address = self.change(|bdk| bdk.reveal_next_address(KeychainKind::External).address);
		self.save().await;
		Ok(address)
	}

	/// A script of ours for a channel's closing output. Persisting it is enqueued (BDK looks ahead, so a script whose
	/// revelation was lost is still found).
	///
	/// # Errors
	/// None today.
	pub fn destination_script(&self) -> Result<ScriptBuf, WalletError> {
		let turn = self.clock.fetch_add(1, Ordering::Relaxed) as usize;
		let info = self.change(|bdk| {
			let unused: Vec<_> = bdk.list_unused_addresses(KeychainKind::Internal).collect();
			if unused.len() < MAX_UNUSED_SCRIPTS {
				bdk.reveal_next_address(KeychainKind::Internal)
			} else {
				unused[turn % unused.len()].clone()
			}
		});
		Ok(info.address.script_pubkey())
	}

	/// All coins, unconfirmed and immature ones included.
	pub fn total(&self) -> Amount {
		self.lock().balance().total()
	}

	/// Transactions that pay to the wallet or spend of it, are in the chain above `height` or in no block, and still wanted.
	pub fn transactions_since(&self, height: u32) -> Vec<WalletView> {
		let bdk = self.lock();
		let view = |tx: bdk_wallet::WalletTx<'_>| {
			let mined = tx.chain_position.confirmation_height_upper_bound();
			if mined.is_some_and(|mined| mined <= height) {
				return None;
			}
			let (sent, received) = bdk.sent_and_received(&tx.tx_node.tx);
			let fee = bdk.calculate_fee(&tx.tx_node.tx).ok();
			Some(WalletView { txid: tx.tx_node.txid, height: mined, sent, received, fee, tx: tx.tx_node.tx.clone() })
		};
		bdk.transactions().filter_map(view).collect()
	}

	/// For which channels this transaction was made, and which of its outputs is each one's.
	pub fn funds_channels(&self, txid: &Txid) -> Vec<(u128, u32)> {
		self.locked().get(txid).map_or_else(Vec::new, |row| row.channels.clone())
	}

	/// Is this transaction a fee bump or a claim of LDK's, and for which channel, if that is still known?
	pub fn bumped_channel(&self, txid: &Txid) -> Option<Option<[u8; 32]>> {
		self.broadcaster.bumped_channel(txid)
	}

	/// What there is.
	pub fn balance(&self) -> Balance {
		let balance = self.lock().balance();
		Balance {
			confirmed: balance.confirmed,
			trusted_pending: balance.trusted_pending,
			untrusted_pending: balance.untrusted_pending,
			immature: balance.immature,
		}
	}

	/// Confirmed, mature coins that no transaction of ours uses: what [`Wallet::fund`] can draw on.
	pub fn spendable(&self) -> Amount {
		self.free_coins(&self.lock()).iter().map(|coin| coin.value).sum()
	}

	/// All unspent coins, unconfirmed ones included.
	pub fn utxos(&self) -> Vec<Utxo> {
		let bdk = self.lock();
		let tip = bdk.latest_checkpoint().height();
		bdk.list_unspent().map(|output| utxo(&output, tip, self.network)).collect()
	}

	/// Bumped whenever coins or transactions change: a hint to look at [`Wallet::activities`] again.
	pub fn changed(&self) -> watch::Receiver<u64> {
		self.changed.subscribe()
	}

	/// Makes and signs a transaction that pays `amount` to `script`, from confirmed coins only, leaving `keep`. Its
	/// inputs are locked, durably, until it is confirmed or [released](Wallet::release).
	///
	/// # Errors
	/// [`WalletError::Short`], [`WalletError::Dust`].
	pub async fn fund(
		&self,
		script: ScriptBuf,
		amount: Amount,
		feerate: FeeRate,
		keep: impl Into<Stay>,
	) -> Result<Funded, WalletError> {
		self.fund_for(None, script, amount, feerate, keep).await
	}

	/// [`Wallet::fund`] for the channel `user_channel_id`, which [`Wallet::funding_of`] finds it by.
	///
	/// # Errors
	/// As [`Wallet::fund`].
	pub async fn fund_for(
		&self,
		user_channel_id: Option<u128>,
		script: ScriptBuf,
		amount: Amount,
		feerate: FeeRate,
		keep: impl Into<Stay>,
	) -> Result<Funded, WalletError> {
		let keep = keep.into();
		let plan = |coins: &[Coin]| coins::plan(coins, &script, Want::Exactly(amount), feerate, keep);
		let recipients = |plan: &Plan| vec![(script.clone(), plan.amount)];
		let channels: Vec<(u128, &ScriptBuf)> = user_channel_id.iter().map(|id| (*id, &script)).collect();
		self.fund_with(&channels, recipients, plan).await
	}

	/// One transaction that funds all these channels: for each its `user_channel_id`, its script and its capacity.
	///
	/// # Errors
	/// As [`Wallet::fund`].
	pub async fn fund_together(
		&self,
		channels: &[(u128, ScriptBuf, Amount)],
		feerate: FeeRate,
		keep: impl Into<Stay>,
	) -> Result<Funded, WalletError> {
		let keep = keep.into();
		let scripts: Vec<&Script> = channels.iter().map(|(_, script, _)| script.as_script()).collect();
		let amount = channels.iter().map(|(_, _, amount)| *amount).sum();
		let plan = |coins: &[Coin]| coins::plan_for_all(coins, &scripts, amount, feerate, keep);
		let recipients = |_: &Plan| channels.iter().map(|(_, script, amount)| (script.clone(), *amount)).collect();
		let ids: Vec<(u128, &ScriptBuf)> = channels.iter().map(|(id, script, _)| (*id, script)).collect();
		self.fund_with(&ids, recipients, plan).await
	}

	async fn fund_with(
		&self,
		channels: &[(u128, &ScriptBuf)],
		recipients: impl Fn(&Plan) -> Vec<(ScriptBuf, Amount)>,
		plan: impl FnOnce(&[Coin]) -> Result<Plan, NoPlan>,
	) -> Result<Funded, WalletError> {
		let row = |tx: &Transaction| {
			let channels = channels.iter().filter_map(|(id, script)| Some((*id, vout_of(tx, script)?)));
			FundingRow { channels: channels.collect(), tx: tx.clone(), taken: false }
		};
		let lock = |wallet: &Wallet, tx: &Transaction| drop(wallet.locked().insert(tx.compute_txid(), row(tx)));
		let (tx, fee) = self.make(recipients, plan, lock)?;
		self.keep.write(Folder::Funding, &tx.compute_txid().to_string(), row(&tx).bytes());
		self.save().await;
		Ok(Funded { tx, fee })
	}

	/// Was this transaction made to fund a channel, and not given up since?
	pub fn has_funding(&self, txid: &Txid) -> bool {
		self.locked().contains_key(txid)
	}

	/// Does this transaction fund several channels?
	pub fn is_shared(&self, txid: &Txid) -> bool {
		self.locked().get(txid).is_some_and(|row| row.channels.len() > 1)
	}

	/// Transactions that fund several channels and were not handed over for broadcast, and which channels those are.
	pub fn shared_unsent(&self) -> Vec<(Txid, Vec<u128>)> {
		let shared: Vec<(Txid, Vec<u128>)> = {
			let locked = self.locked();
			let shared = locked.iter().filter(|(_, row)| row.channels.len() > 1);
			shared.map(|(txid, row)| (*txid, row.channels.iter().map(|(id, _)| *id).collect())).collect()
		};
		shared.into_iter().filter(|(txid, _)| !self.is_out(txid)).collect()
	}

	/// What the miner gets for a channel's funding, and whether other channels are funded with it: then only the part of this
	/// one, whichever order they are asked in.
	pub fn share_of(&self, txid: Txid, user_channel_id: u128) -> (Option<Sat>, bool) {
		let channels = self.funds_channels(&txid);
		let fee = self.fee_of(txid).map(|fee| Sat(fee.to_sat()));
		let place = channels.iter().position(|(id, _)| *id == user_channel_id);
		match place.filter(|_| channels.len() > 1) {
			Some(place) => (fee.map(|fee| share_of(fee, channels.len() as u64, place as u64)), true),
			None => (fee, false),
		}
	}

	/// The funding output that was made for this channel: whatever LDK knows of it, and after a crash too. `None` when the
	/// coins were freed, or [`OWNED`] blocks after it was mined.
	pub fn funding_of(&self, user_channel_id: u128) -> Option<OutPoint> {
		let locked = self.locked();
		let mut all = locked.iter().flat_map(|(txid, row)| row.channels.iter().map(move |channel| (txid, channel)));
		let (txid, (_, vout)) = all.find(|(_, (id, _))| *id == user_channel_id)?;
		Some(OutPoint { txid: *txid, vout: *vout })
	}

	/// Funding transactions that hold coins and are neither confirmed nor being broadcast. At start, those that no
	/// channel knows are to be [released](Wallet::release).
	pub fn funded(&self) -> Vec<Txid> {
		let locked: Vec<Txid> = self.locked().keys().copied().collect();
		let bdk = self.lock();
		let confirmed = |txid: &Txid| mined_at(&bdk, *txid).is_some();
		locked.into_iter().filter(|txid| !self.broadcaster.contains(txid) && !confirmed(txid)).collect()
	}

	/// Unlocks the inputs of a funding transaction that will never be broadcast, and stops sending what spends it: LDK sends
	/// the closing of a channel whose funding is withheld, and nobody will ever take it. Does nothing if it is being broadcast.
	pub async fn release(&self, txid: Txid) {
		if self.broadcaster.contains(&txid) {
			tracing::warn!(%txid, "a funding transaction that is being broadcast cannot be released");
			return;
		}
		// Before the row of the funding: after a crash in between, the next start finds the row, and comes here again.
		self.evict(&self.broadcaster.forget_spenders(&txid));
		if self.locked().remove(&txid).is_none() {
			return;
		}
		self.evict(&[txid]);
		self.keep.remove(Folder::Funding, &txid.to_string());
		self.save().await;
	}

	/// Hands a transaction that [`Wallet::fund`] made over for broadcast, if that was not done before. False if there is no
	/// such transaction any more.
	pub fn broadcast_funding(&self, txid: &Txid) -> bool {
		if self.is_out(txid) {
			return true;
		}
		let Some(tx) = self.locked().get(txid).map(|row| row.tx.clone()) else { return false };
		self.broadcaster.send_funding(tx);
		self.broadcaster.contains(txid)
	}

	/// Does a transaction that [`Wallet::fund`] made hold its coins without having been handed over for broadcast?
	pub fn is_withheld(&self, txid: &Txid) -> bool {
		self.has_funding(txid) && !self.is_out(txid)
	}

	/// Was this transaction made by us, and never handed over for broadcast?
	pub fn is_unsent(&self, txid: &Txid) -> bool {
		// Without BDK's view of what is canonical, which is dear: this is asked for each input of the driver.
		let unseen = self.lock().tx_graph().get_tx_node(*txid).is_some_and(|node| node.anchors.is_empty());
		unseen && !self.broadcaster.contains(txid)
	}

	/// Pays `amount` (`None`: all but `keep`) from confirmed coins and broadcasts. Without a feerate, that of six blocks.
	///
	/// # Errors
	/// [`WalletError::WrongNetwork`], [`WalletError::Short`], [`WalletError::Dust`], [`WalletError::Refused`].
	/// An unreachable backend is none: the transaction is sent when it is back.
	pub async fn send(
		&self,
		to: Address,
		amount: Option<Amount>,
		feerate: Option<FeeRate>,
		keep: impl Into<Stay>,
	) -> Result<Sent, WalletError> {
		self.check_network(&to)?;
		let feerate = feerate.unwrap_or_else(|| FeeRate::from_sat_per_kwu(u64::from(self.fees.normal().0)));
		let want = amount.map_or(Want::All, Want::Exactly);
		let script = to.script_pubkey();
		let keep = keep.into();
		let plan = |coins: &[Coin]| coins::plan(coins, &script, want, feerate, keep);
		let (tx, fee) = self.make(|plan| vec![(script.clone(), plan.amount)], plan, |_, _| ())?;
		self.save().await;
		let txid = tx.compute_txid();
		self.broadcaster.send(vec![tx.clone()]);
		let outcome = self.broadcaster.outcome(txid, VERDICT).await;
		if let Some(Err(reason)) = outcome {
			self.broadcaster.forget(&txid);
			self.evict(&[txid]);
			self.save().await;
			return Err(WalletError::Refused(reason));
		}
		Ok(Sent { tx, fee, queued: outcome.is_none() })
	}

	/// What the miner gets for a transaction of ours; `None` if not all of its inputs are ours.
	pub fn fee_of(&self, txid: Txid) -> Option<Amount> {
		let bdk = self.lock();
		let tx = tx_of(&bdk, txid)?;
		bdk.calculate_fee(&tx).ok()
	}

	/// What [`Wallet::send`] would pay, to whom it is sent and to the miner; nothing is sent.
	///
	/// # Errors
	/// As [`Wallet::send`], the backend's refusal excepted.
	pub fn plan(
		&self,
		to: &Address,
		amount: Option<Amount>,
		feerate: FeeRate,
		keep: impl Into<Stay>,
	) -> Result<(Amount, Amount), WalletError> {
		self.check_network(to)?;
		let want = amount.map_or(Want::All, Want::Exactly);
		let plan = coins::plan(&self.free_coins(&self.lock()), &to.script_pubkey(), want, feerate, keep)?;
		Ok((plan.amount, plan.fee))
	}

	/// All outputs that ever paid to these addresses and are in the chain or the mempool, spent ones included, for the price
	/// of one look at the wallet. Addresses that are not ours have none. Confirmations are counted to [`FINAL`] only: what comes after changes nothing.
	pub fn activities<'a>(&self, addresses: &[&'a str]) -> HashMap<&'a str, Vec<Received>> {
		let script = |address: &str| Some(Address::from_str(address).ok()?.assume_checked().script_pubkey());
		let by_script: HashMap<ScriptBuf, &'a str> =
			addresses.iter().filter_map(|&address| Some((script(address)?, address))).collect();
		let bdk = self.lock();
		let tip = bdk.latest_checkpoint().height();
		let mut found: HashMap<&'a str, Vec<Received>> = HashMap::new();
		for output in bdk.list_output() {
			let Some(&address) = by_script.get(&output.txout.script_pubkey) else { continue };
			found.entry(address).or_default().push(Received {
				outpoint: output.outpoint,
				value: Sat(output.txout.value.to_sat()),
				confirmations: confirmations(&output.chain_position, tip).min(FINAL),
				feerate: feerate(&bdk, output.outpoint.txid),
			});
		}
		found
	}

	/// Resolves when every change so far is durable (never, if the store has died: it ends the process).
	pub async fn save(&self) {
		self.keep.settled().await;
	}

	/// [`save`](Wallet::save), on this disk alone.
	pub(super) async fn save_here(&self) {
		self.keep.settled_here().await;
	}

	/// Plans over the spendable coins, builds, signs, and lets BDK know, all under one lock: no two transactions spend the same
	/// coin.
	fn make(
		&self,
		recipients: impl Fn(&Plan) -> Vec<(ScriptBuf, Amount)>,
		plan: impl FnOnce(&[Coin]) -> Result<Plan, NoPlan>,
		locked: impl FnOnce(&Wallet, &Transaction),
	) -> Result<(Transaction, Amount), WalletError> {
		let made = self.change(|bdk| {
			let plan = plan(&self.free_coins(bdk))?;
			let tx = self.build(bdk, &plan, recipients(&plan))?;
			locked(self, &tx);
			bdk.apply_unconfirmed_txs([(tx.clone(), self.tick())]);
			Ok((tx, plan.fee))
		});
		self.has_news();
		made
	}

	fn build(
		&self,
		bdk: &mut bdk_wallet::Wallet,
		plan: &Plan,
		recipients: Vec<(ScriptBuf, Amount)>,
	) -> Result<Transaction, WalletError> {
		let failed = |e: &dyn std::fmt::Display| WalletError::Build(e.to_string());
		let mut builder = bdk.build_tx();
		builder.add_utxos(&plan.inputs).map_err(|e| failed(&e))?;
		builder.manually_selected_only().set_recipients(recipients).fee_absolute(plan.fee);
		let mut psbt = builder.finish().map_err(|e| failed(&e))?;
		if !self.sign(bdk, &mut psbt, SignOptions::default())? {
			return Err(WalletError::Build("not every input could be signed".into()));
		}
		psbt.extract_tx().map_err(|e| failed(&e))
	}

	/// True if every input is signed.
	pub(super) fn sign(
		&self,
		bdk: &bdk_wallet::Wallet,
		psbt: &mut Psbt,
		options: SignOptions,
	) -> Result<bool, WalletError> {
		let signers: Vec<&SignersContainer> = self.signers.iter().collect();
		bdk.sign_with_signers(psbt, &signers, options).map_err(|e| WalletError::Build(e.to_string()))
	}

	fn check_network(&self, address: &Address) -> Result<(), WalletError> {
		if address.as_unchecked().is_valid_for_network(self.network) {
			return Ok(());
		}
		Err(WalletError::WrongNetwork { address: address.to_string(), network: self.network })
	}

	/// Does a transaction that spends `outpoint`, which need not be ours, concern the wallet: pay to it, say? A splice does not
	/// count: what it takes from there goes into the channel again.
	pub fn is_paid_from(&self, outpoint: OutPoint) -> bool {
		let bdk = self.lock();
		let spenders = bdk.tx_graph().outspends(outpoint).iter();
		spenders.filter(|txid| !self.is_splice(txid)).any(|txid| bdk.get_tx(*txid).is_some())
	}

	/// Has the chain backend taken this transaction into its mempool, in this run, or is it in the chain? Without a verdict of
	/// this run it has not: it is sent at once, and the verdict follows. One that funds several channels stays taken once an
	/// order was told ([`Wallet::take`]).
	pub fn is_taken(&self, txid: &Txid) -> bool {
		self.broadcaster.standing(txid) == Standing::Taken || self.is_kept(txid) || self.is_confirmed(txid)
	}

	/// Like [`is_taken`](Wallet::is_taken), for whoever tells an order, which claims its payment then. One that funds several
	/// channels is not withdrawn from then on, whatever becomes of the other orders: that is on the disk before anything that is
	/// written after this.
	pub fn take(&self, txid: &Txid) -> bool {
		let _no_withdrawal = self.verdicts();
		if !self.is_taken(txid) {
			return false;
		}
		let mut locked = self.locked();
		if let Some(row) = locked.get_mut(txid).filter(|row| row.channels.len() > 1 && !row.taken) {
			row.taken = true;
			self.keep.write(Folder::Funding, &txid.to_string(), row.bytes());
		}
		true
	}

	/// Does it count as taken for good? Not if one that conflicts is in the chain: then nothing can bring it back.
	fn is_kept(&self, txid: &Txid) -> bool {
		let told = self.locked().get(txid).is_some_and(|row| row.taken);
		told && self.broadcaster.standing(txid) != Standing::Replaced
	}

	/// Held while an order is told that its funding is taken, and while a funding is withdrawn. No other lock is held by who
	/// takes it.
	fn verdicts(&self) -> MutexGuard<'_, ()> {
		self.verdicts.lock().expect("no code panics while it holds this lock")
	}

	/// Did the chain backend refuse this transaction when it was last sent, or is a conflicting one in the chain?
	pub fn is_refused(&self, txid: &Txid) -> bool {
		match self.broadcaster.standing(txid) {
			Standing::Refused => !self.is_kept(txid),
			Standing::Replaced => !self.is_confirmed(txid),
			Standing::Taken | Standing::Mined | Standing::Unknown => false,
		}
	}

	/// A funding transaction is not sent any more, or is again: once the chain backend has said that it does not have it, it
	/// counts as [refused](Wallet::is_refused). One that funds several channels is not held back: others may be paid for.
	pub fn hold_back(&self, txid: &Txid, held_back: bool) {
		if !self.is_shared(txid) {
			self.broadcaster.hold_back(txid, held_back);
		}
	}

	/// Stops sending a funding transaction that was [refused](Wallet::is_refused) and whose channel is given up, with what
	/// spends it, and frees its coins for others: once they are spent it can never be mined. True when that is durable;
	/// false, and nothing is changed, if it is being sent at this moment or was not refused after all, or if it funds several
	/// channels and an order of one was told that it was [taken](Wallet::take).
	pub async fn withdraw(&self, txid: Txid) -> bool {
		let gone = {
			let _nobody_is_told = self.verdicts();
			(!self.is_taken(&txid)).then(|| self.broadcaster.withdraw(&txid)).flatten()
		};
		let Some(gone) = gone else { return false };
		self.evict(&gone);
		self.release(txid).await;
		self.save().await;
		true
	}

	/// Was this transaction handed over for broadcast, in this run or an earlier one?
	pub fn is_out(&self, txid: &Txid) -> bool {
		self.broadcaster.contains(txid) || self.is_confirmed(txid)
	}

	pub(super) fn is_confirmed(&self, txid: &Txid) -> bool {
		mined_at(&self.lock(), *txid).is_some()
	}

	/// Takes transactions out of the wallet's view. BDK evicts those only that it holds for canonical: of several that spend the
	/// same coin that is one, and then the next.
	pub(super) fn evict(&self, txids: &[Txid]) {
		let at = self.tick();
		self.change(|bdk| {
			for _ in txids {
				bdk.apply_evicted_txs(txids.iter().map(|txid| (*txid, at)));
			}
		});
		self.has_news();
	}

	/// Transactions of our own that are still wanted hold their coins, whatever the last run thought of them.
	fn reapply_own(&self) {
		let at = self.tick();
		let mut own: Vec<Transaction> = self.locked().values().map(|row| row.tx.clone()).collect();
		own.extend(self.broadcaster.in_flight().into_iter().map(|(tx, _)| tx));
		own.extend(self.spliced().values().filter_map(|row| row.tx.clone()));
		self.change(|bdk| bdk.apply_unconfirmed_txs(own.into_iter().map(|tx| (tx, at))));
	}

	fn hear_broadcasts(self: &Arc<Self>) {
		let wallet = Arc::downgrade(self);
		self.broadcaster.on_enqueue(move |txs| {
			if let Some(wallet) = wallet.upgrade() {
				wallet.saw_unconfirmed(txs.to_vec());
			}
		});
	}

	/// Funding transactions that are settled no longer need their row.
	pub(super) fn tidy(&self) {
		let tip = self.lock().latest_checkpoint().height();
		let settled: Vec<Txid> = {
			let locked: Vec<(Txid, bool)> =
				self.locked().iter().map(|(txid, row)| (*txid, !row.channels.is_empty())).collect();
			let bdk = self.lock();
			let is_settled = |(txid, owned): &(Txid, bool)| {
				let enough = if *owned { OWNED } else { super::broadcast::DEEP };
				depth(&bdk, *txid, tip) >= enough || is_replaced(&bdk, *txid)
			};
			locked.into_iter().filter(is_settled).map(|(txid, _)| txid).collect()
		};
		for txid in settled {
			self.locked().remove(&txid);
			self.keep.remove(Folder::Funding, &txid.to_string());
		}
		self.tidy_splices(tip);
	}

	/// Transactions that must not be taken for evicted because the backend does not list them.
	pub(super) fn is_held(&self, txid: &Txid) -> bool {
		self.has_funding(txid) || self.broadcaster.contains(txid) || self.is_splice(txid)
	}

	pub(super) fn keep(&self) -> &Keep {
		&self.keep
	}

	/// Changes BDK's state and enqueues what came of it, under one lock.
	pub(super) fn change<T>(&self, change: impl FnOnce(&mut bdk_wallet::Wallet) -> T) -> T {
		let mut bdk = self.lock();
		let result = change(&mut bdk);
		if let Some(staged) = bdk.take_staged() {
			self.keep.save_wallet(&staged);
		}
		result
	}

	/// Tells those who listen to [`Wallet::changed`].
	pub(super) fn has_news(&self) {
		self.changed.send_modify(|version| *version += 1);
	}

	/// Now, in seconds, and later than ever before.
	pub(super) fn tick(&self) -> u64 {
		let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
		let next = |last: u64| Some(now.max(last + 1));
		self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
	}

	pub(super) fn lock(&self) -> MutexGuard<'_, bdk_wallet::Wallet> {
		self.bdk.lock().expect("no code panics while it holds this lock")
	}

	fn spliced(&self) -> MutexGuard<'_, splice::Splices> {
		self.spliced.lock().expect("no code panics while it holds this lock")
	}

	fn locked(&self) -> MutexGuard<'_, BTreeMap<Txid, FundingRow>> {
		self.locked.lock().expect("no code panics while it holds this lock")
	}
}

/// A funding transaction that holds coins.
struct FundingRow {
	tx: Transaction,
	/// The channels that it is for, and which output is each one's.
	channels: Vec<(u128, u32)>,
	/// It funds several, and an order of one was told that the chain backend has it.
	taken: bool,
}

/// As stored; fields are only ever added. Rows of earlier versions are the transaction alone, as it is on the wire.
#[derive(Serialize, Deserialize)]
struct StoredFunding {
	tx: String,
	/// In hexadecimal: JSON has no integers of this size.
	#[serde(default)]
	user_channel_id: Option<String>,
	#[serde(default)]
	vout: Option<u32>,
	/// Of several; those of one are as they were before there were several.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	channels: Vec<StoredChannel>,
	#[serde(default, skip_serializing_if = "std::ops::Not::not")]
	taken: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredChannel {
	/// In hexadecimal.
	user_channel_id: String,
	vout: u32,
}

impl FundingRow {
	fn read(bytes: &[u8]) -> Result<FundingRow, Box<dyn std::error::Error + Send + Sync>> {
		if bytes.first() != Some(&b'{') {
			return Ok(FundingRow { tx: deserialize(bytes)?, channels: Vec::new(), taken: false });
		}
		let stored: StoredFunding = serde_json::from_slice(bytes)?;
		let one = stored.user_channel_id.zip(stored.vout);
		let several = stored.channels.into_iter().map(|channel| (channel.user_channel_id, channel.vout));
		let read = |(id, vout): (String, u32)| Ok::<_, ParseIntError>((u128::from_str_radix(&id, 16)?, vout));
		let channels = one.into_iter().chain(several).map(read).collect::<Result<Vec<_>, _>>()?;
		Ok(FundingRow { tx: deserialize_hex(&stored.tx)?, channels, taken: stored.taken })
	}

	fn bytes(&self) -> Vec<u8> {
		let named = |id: &u128| format!("{id:032x}");
		let (one, several) = match &self.channels[..] {
			[one] => (Some(one), &[][..]),
			several => (None, several),
		};
		let several = several.iter().map(|(id, vout)| StoredChannel { user_channel_id: named(id), vout: *vout });
		let stored = StoredFunding {
			tx: serialize_hex(&self.tx),
			user_channel_id: one.map(|(id, _)| named(id)),
			vout: one.map(|(_, vout)| *vout),
			channels: several.collect(),
			taken: self.taken,
		};
		serde_json::to_vec(&stored).expect("strings and numbers are JSON")
	}
}

fn vout_of(tx: &Transaction, script: &ScriptBuf) -> Option<u32> {
	let index = tx.output.iter().position(|output| output.script_pubkey == *script)?;
	u32::try_from(index).ok()
}

/// Blocks that are deep and hold nothing of ours are not looked at again, and BDK goes through all that it has for each question.
fn thin(mut stored: ChangeSet) -> ChangeSet {
	let tip = stored.local_chain.blocks.keys().next_back().copied().unwrap_or_default();
	let anchors: BTreeSet<u32> = stored.tx_graph.anchors.iter().map(|(anchor, _)| anchor.block_id.height).collect();
	let is_young = |height: u32| height.saturating_add(REMEMBERED) > tip;
	stored.local_chain.blocks.retain(|height, _| *height == 0 || is_young(*height) || anchors.contains(height));
	stored
}

fn load_or_create(stored: ChangeSet, xprv: Xpriv, network: Network) -> Result<bdk_wallet::Wallet, WalletError> {
	let (external, internal) = (Bip86(xprv, KeychainKind::External), Bip86(xprv, KeychainKind::Internal));
	let loaded = bdk_wallet::Wallet::load()
		.descriptor(KeychainKind::External, Some(external.clone()))
		.descriptor(KeychainKind::Internal, Some(internal.clone()))
		.check_network(network)
		.load_wallet_no_persist(thin(stored))
		.map_err(|_| WalletError::Load("it belongs to another seed or another network".into()))?;
	match loaded {
		Some(wallet) => Ok(wallet),
		None => bdk_wallet::Wallet::create(external, internal)
			.network(network)
			.create_wallet_no_persist()
			.map_err(|_| WalletError::Load("the seed's key is for another network".into())),
	}
}

fn latest_sighting(bdk: &bdk_wallet::Wallet) -> u64 {
	let graph = bdk.tx_graph();
	let times = graph.full_txs().map(|tx| tx.last_seen.max(graph.get_last_evicted(tx.txid)));
	times.flatten().max().unwrap_or(0)
}

/// Confirmed, mature coins that nothing spends.
fn spendable(bdk: &bdk_wallet::Wallet) -> Vec<Coin> {
	let tip = bdk.latest_checkpoint().height();
	bdk.list_unspent()
		.filter(|output| is_mature(bdk, output, tip))
		.map(|output| Coin { outpoint: output.outpoint, value: output.txout.value })
		.collect()
}

/// Confirmed, and if it was mined to us, for long enough.
pub(super) fn is_mature(bdk: &bdk_wallet::Wallet, output: &LocalOutput, tip: u32) -> bool {
	let is_coinbase = || tx_of(bdk, output.outpoint.txid).is_some_and(|tx| tx.is_coinbase());
	match confirmations(&output.chain_position, tip) {
		0 => false,
		young if young < MATURITY => !is_coinbase(),
		_ => true,
	}
}

fn signers(bdk: &bdk_wallet::Wallet, xprv: Xpriv, keychain: KeychainKind) -> Result<SignersContainer, WalletError> {
	let built = Bip86(xprv, keychain).build(bdk.network().into());
	let (descriptor, keys, _) = built.map_err(|_| WalletError::Load("the seed's key is for another network".into()))?;
	Ok(SignersContainer::build(keys, &descriptor, bdk.secp_ctx()))
}

/// A transaction, whether it still counts or not. (BDK's own `get_tx` reckons first which of all transactions count: asked for each
/// coin, or for each sale, that is a step over all that was ever sold.)
pub(super) fn tx_of(bdk: &bdk_wallet::Wallet, txid: Txid) -> Option<Arc<Transaction>> {
	bdk.tx_graph().get_tx(txid)
}

/// The height at which a transaction, or what spends it, is in the best chain.
pub(super) fn mined_at(bdk: &bdk_wallet::Wallet, txid: Txid) -> Option<u32> {
	let (graph, chain) = (bdk.tx_graph(), bdk.local_chain());
	let is_in_chain = |block: &BlockId| chain.get(block.height).is_some_and(|known| known.hash() == block.hash);
	let own = |txid: Txid| {
		let anchors = graph.get_tx_node(txid)?.anchors;
		anchors.iter().map(|anchor| anchor.block_id).find(is_in_chain).map(|block| block.height)
	};
	own(txid).or_else(|| graph.walk_descendants(txid, |_, spender| own(spender)).min())
}

/// Is another transaction in the best chain that spends what it spends?
fn is_replaced(bdk: &bdk_wallet::Wallet, txid: Txid) -> bool {
	let is_other = |other: &Txid| *other != txid && mined_at(bdk, *other).is_some();
	let is_spent = |outpoint: OutPoint| bdk.tx_graph().outspends(outpoint).iter().any(is_other);
	tx_of(bdk, txid).is_none_or(|tx| tx.input.iter().any(|input| is_spent(input.previous_output)))
}

/// Its confirmations.
pub(super) fn depth(bdk: &bdk_wallet::Wallet, txid: Txid, tip: u32) -> u32 {
	mined_at(bdk, txid).map_or(0, |height| tip.saturating_sub(height).saturating_add(1))
}

pub(super) fn confirmations<A: bdk_wallet::chain::Anchor>(position: &ChainPosition<A>, tip: u32) -> u32 {
	let height = position.confirmation_height_upper_bound();
	height.map_or(0, |height| tip.saturating_sub(height).saturating_add(1))
}

fn utxo(output: &LocalOutput, tip: u32, network: Network) -> Utxo {
	let address = Address::from_script(&output.txout.script_pubkey, network);
	Utxo {
		outpoint: output.outpoint,
		value: output.txout.value,
		confirmations: confirmations(&output.chain_position, tip),
		address: address.map(|address| address.to_string()).unwrap_or_default(),
	}
}

/// Rounded down: it is compared with a minimum that we ask for.
fn feerate(bdk: &bdk_wallet::Wallet, txid: Txid) -> Option<FeePerKw> {
	let tx = tx_of(bdk, txid)?;
	let fee = bdk.calculate_fee(&tx).ok()?;
	let per_kw = fee.to_sat().checked_mul(1000)? / tx.weight().to_wu().max(1);
	u32::try_from(per_kw).ok().map(FeePerKw)
}

#[cfg(test)]
#[path = "wallet_tests.rs"]
mod tests;
