//! R10 as a whole: a wallet sells as long as it may, its governor makes coins, then everything is forced at once. The plans of sales, the
//! governor, LDK's reckoning of the reserve and LDK's own selection of coins for bumps are the real ones; the chain is a list.

use super::coins::{self, Coin, Want};
use super::reserve::{Reserve, ReservePolicy, anchor_reserve};
use super::wallet::Utxo;
use bitcoin::hashes::Hash;
use bitcoin::key::TweakedPublicKey;
use bitcoin::locktime::absolute::LockTime;
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid, WScriptHash};
use inlet_lsp::capital::Purse;
use inlet_lsp::coins::{Next, next};
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::policy::CapitalPolicy;
use lightning::chain::ClaimId;
use lightning::util::logger::{Logger, Record};
use lightning::util::wallet_utils::{self, CoinSelectionSource, Input, WalletSource};
use std::sync::{Arc, Mutex};

/// 100 sat/vB, in sat per 1000 weight units.
const STRESS: u32 = 25_000;
/// While there is peace.
const CALM: FeeRate = FeeRate::from_sat_per_kwu(250);
/// LDK closes so many blocks before an HTLC that it can claim would be lost (`CLTV_CLAIM_BUFFER`).
const BLOCKS: u32 = 18;
/// BOLT 3: a commitment with anchors and one HTLC in each direction.
const COMMITMENT: u64 = 1_124 + 2 * 172;
/// What LDK counts for the anchor's witness, and for empty script signatures (`ANCHOR_INPUT_WITNESS_WEIGHT`).
const ANCHOR_WITNESS: u64 = 116 + 4;
/// So that the whole claim weighs what BOLT 3 says: 706 with a preimage, 666 by timeout.
const HTLC_WITNESSES: [u64; 2] = [706 - 374, 666 - 374];
const MAX_TX_WEIGHT: u64 = 400_000;

/// A wallet of one key: coins, and the block from which on each is confirmed.
struct Coins {
	block: Mutex<u32>,
	own: Mutex<Vec<(Txid, Transaction, u32)>>,
}

impl Coins {
	fn new(values: &[u64]) -> Arc<Coins> {
		let coins = Coins { block: Mutex::new(0), own: Mutex::default() };
		values.iter().for_each(|value| coins.add(Amount::from_sat(*value), 0));
		Arc::new(coins)
	}

	fn block(&self) -> u32 {
		*self.block.lock().unwrap()
	}

	fn mine(&self) {
		*self.block.lock().unwrap() += 1;
	}

	fn key() -> TweakedPublicKey {
		let pair = Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[7; 32]).unwrap());
		TweakedPublicKey::dangerous_assume_tweaked(pair.x_only_public_key().0)
	}

	fn script() -> ScriptBuf {
		ScriptBuf::new_p2tr_tweaked(Coins::key())
	}

	/// A coin that is confirmed from this block on. Each is the only output of a transaction of its own.
	fn add(&self, value: Amount, from: u32) {
		let mut own = self.own.lock().unwrap();
		let lock_time = LockTime::from_height(own.len() as u32).unwrap();
		let output = vec![TxOut { value, script_pubkey: Coins::script() }];
		let tx = Transaction { version: Version::TWO, lock_time, input: vec![], output };
		own.push((tx.compute_txid(), tx, from));
	}

	fn spend(&self, spent: &[OutPoint]) {
		let mut own = self.own.lock().unwrap();
		for (_, tx, _) in own.iter_mut().filter(|(txid, ..)| spent.iter().any(|one| one.txid == *txid)) {
			tx.output.clear();
		}
	}

	fn all(&self) -> Vec<(OutPoint, Amount, u32)> {
		let own = self.own.lock().unwrap();
		let there = own.iter().filter(|(_, tx, _)| !tx.output.is_empty());
		there.map(|(txid, tx, from)| (OutPoint { txid: *txid, vout: 0 }, tx.output[0].value, *from)).collect()
	}

	fn confirmed(&self) -> Vec<Coin> {
		let block = self.block();
		let there = self.all().into_iter().filter(|(.., from)| *from <= block);
		there.map(|(outpoint, value, _)| Coin { outpoint, value }).collect()
	}

	fn reserve(&self, channels: u64) -> Reserve {
		let policy = ReservePolicy { feerate: FeeRate::from_sat_per_kwu(STRESS.into()), htlcs: 1 };
		let utxo =
			|coin: Coin| Utxo { outpoint: coin.outpoint, value: coin.value, confirmations: 1, address: String::new() };
		anchor_reserve(policy, channels, &self.confirmed().into_iter().map(utxo).collect::<Vec<_>>())
	}

	/// Does what the governor wants, if anything.
	fn govern(&self, channels: u64) {
		let (kept, coins, block) = (self.reserve(channels), self.confirmed(), self.block());
		let sat = |value: Amount| Sat(value.to_sat());
		let purse = Purse {
			coins: coins.iter().map(|coin| sat(coin.value)).collect(),
			pending: self
				.all()
				.into_iter()
				.filter(|(.., from)| *from > block)
				.map(|(_, value, _)| sat(value))
				.collect(),
			anchors: sat(kept.required),
			per_channel: sat(kept.per_channel),
			channels,
			feerate: Some(FeePerKw(250)),
			..Purse::default()
		};
		let (of, pieces) = match next(&CapitalPolicy::default(), &purse, Sat::ZERO) {
			Next::Rest(_) => return,
			Next::Split { from, pieces } => (vec![from], pieces),
			Next::Merge { of } => (of, 0),
		};
		let total = of.iter().map(|index| coins[*index].value).sum();
		let rest = coins::rearranged(of.len(), total, pieces, kept.per_channel, CALM).unwrap();
		self.spend(&of.iter().map(|index| coins[*index].outpoint).collect::<Vec<_>>());
		(0..pieces).map(|_| kept.per_channel).chain([rest]).for_each(|value| self.add(value, block + 1));
	}

	/// Pays so much out, leaving what `channels` need, if it may.
	fn pay(&self, sat: u64, channels: u64) -> bool {
		let kept = self.reserve(channels);
		let script = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
		let plan =
			coins::plan(&self.confirmed(), &script, Want::Exactly(Amount::from_sat(sat)), CALM, kept.and(Amount::ZERO));
		let Ok(plan) = plan else { return false };
		self.spend(&plan.inputs);
		if let Some(change) = plan.change {
			self.add(change, self.block() + 1);
		}
		true
	}
}

impl WalletSource for Coins {
	async fn list_confirmed_utxos(&self) -> Result<Vec<wallet_utils::Utxo>, ()> {
		let as_ldk = |coin: Coin| wallet_utils::Utxo::new_v1_p2tr(coin.outpoint, coin.value, Coins::key());
		Ok(self.confirmed().into_iter().map(as_ldk).collect())
	}

	async fn get_prevtx(&self, outpoint: OutPoint) -> Result<Transaction, ()> {
		let own = self.own.lock().unwrap();
		own.iter().find(|(txid, ..)| *txid == outpoint.txid).map(|(_, tx, _)| tx.clone()).ok_or(())
	}

	async fn get_change_script(&self) -> Result<ScriptBuf, ()> {
		Ok(Coins::script())
	}

	async fn sign_psbt(&self, _: Psbt) -> Result<Transaction, ()> {
		Err(())
	}
}

struct Quiet;

impl Logger for Quiet {
	fn log(&self, _: Record) {}
}

type Selector = wallet_utils::Wallet<Arc<Coins>, Arc<Quiet>>;

/// What a channel has still to do on the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
	Commitment,
	Htlc(usize),
}

/// Has LDK choose coins for this claim, and spends them; `false` if there are none now.
async fn bump(selector: &Selector, coins: &Coins, channel: u64, claim: Claim) -> bool {
	let (mark, value, witness, weight, script) = match claim {
		Claim::Commitment => (0, 330, COMMITMENT + ANCHOR_WITNESS, COMMITMENT, None),
		Claim::Htlc(way) => {
			(1 + way as u64, 50_000, HTLC_WITNESSES[way], 0, Some(ScriptBuf::new_p2wsh(&WScriptHash::all_zeros())))
		}
	};
	let mut id = [0; 32];
	id[..16].copy_from_slice(&[channel.to_be_bytes(), u64::to_be_bytes(mark)].concat());
	let value = Amount::from_sat(value);
	let previous_utxo = TxOut { value, script_pubkey: ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()) };
	let must_spend = Input { outpoint: OutPoint::null(), previous_utxo, satisfaction_weight: witness };
	let paid: Vec<TxOut> = script.map(|script_pubkey| TxOut { value, script_pubkey }).into_iter().collect();
	let chosen = selector
		.select_confirmed_utxos(Some(ClaimId(id)), vec![must_spend], &paid, STRESS, MAX_TX_WEIGHT + weight)
		.await;
	let Ok(chosen) = chosen else { return false };
	let spent: Vec<OutPoint> = chosen.confirmed_utxos.iter().map(|one| one.outpoint()).collect();
	let confirmed: Vec<OutPoint> = coins.confirmed().iter().map(|coin| coin.outpoint).collect();
	assert!(!spent.is_empty() && spent.iter().all(|one| confirmed.contains(one)), "no coin twice");
	coins.spend(&spent);
	if let Some(change) = chosen.change_output {
		coins.add(change.value, coins.block() + 1);
	}
	true
}

/// Sells `channels` and whatever else it may, then forces all of them. Gives how many blocks it took until all was claimed.
async fn sold_and_forced(channels: u64, wallet: &[u64]) -> u32 {
	let coins = Coins::new(wallet);
	let mut sold = 0;
	while sold < channels {
		coins.govern(sold);
		sold += u64::from(coins.pay(50_000, sold + 1));
		coins.mine();
		assert!(coins.block() < 10 * channels as u32, "{sold} sold");
	}
	// The greediest shop: it sells on until its wallet refuses, for ten blocks in a row.
	let (mut greed, mut refused) = (0, 0);
	while refused < 10 {
		coins.govern(channels);
		let paid = coins.pay(500_000, channels);
		(greed, refused) = if paid { (greed + 1, 0) } else { (greed, refused + 1) };
		coins.mine();
	}
	assert!(greed > 0, "nothing was sold from what is not kept");
	let kept = coins.reserve(channels);
	let left: Amount = coins.all().into_iter().map(|(_, value, _)| value).sum();
	assert!(left >= kept.required && kept.carried >= channels, "sales spent the reserve: {left}, {kept:?}");

	let selector = Selector::new(coins.clone(), Arc::new(Quiet));
	let mut todo: Vec<(u64, Claim)> = (0..channels).map(|channel| (channel, Claim::Commitment)).collect();
	let mut claimed = 0;
	for block in 1..=BLOCKS {
		let mut later = Vec::new();
		for (channel, claim) in todo {
			match (bump(&selector, &coins, channel, claim).await, claim) {
				(false, _) => later.push((channel, claim)),
				// In the next block its HTLCs can be claimed.
				(true, Claim::Commitment) => later.extend([0, 1].map(|way| (channel, Claim::Htlc(way)))),
				(true, Claim::Htlc(_)) => claimed += 1,
			}
		}
		todo = later;
		coins.mine();
		if todo.is_empty() {
			assert_eq!(claimed, 2 * channels, "each channel has an HTLC in each direction");
			return block;
		}
	}
	panic!("{} claims of {channels} channels are not funded within {BLOCKS} blocks", todo.len());
}

#[tokio::test]
async fn r10_two_hundred_channels_are_sold_and_forced_and_every_claim_is_funded_in_time() {
	let blocks = sold_and_forced(200, &[20_000_000, 20_000_000, 20_000_000]).await;
	assert!(blocks <= BLOCKS / 2, "{blocks} blocks, which leaves none for those that are not mined at once");
}
