//! Coins of a splice are held, signed for once, and freed.

use super::super::super::testing::{Bench, spend};
use super::*;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning::chain::chaininterface::{BroadcasterInterface, TransactionType};
use lightning::util::wallet_utils::WalletSource;

const RATE: FeeRate = FeeRate::from_sat_per_kwu(500);

fn sats(sats: u64) -> Amount {
	Amount::from_sat(sats)
}

fn terms() -> SpliceTerms {
	let secret = SecretKey::from_slice(&[3; 32]).unwrap();
	SpliceTerms { mark: 7, peer: PublicKey::from_secret_key(&Secp256k1::new(), &secret), channel_id: [9; 32] }
}

fn shared() -> (OutPoint, TxOut) {
	let script_pubkey = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
	(OutPoint { txid: Txid::all_zeros(), vout: 1 }, TxOut { value: sats(400_000), script_pubkey })
}

/// What the two sides build of what we hold: the channel's new output is the first.
fn built(held: &CoinSelection) -> Transaction {
	let mut inputs: Vec<OutPoint> = held.confirmed_utxos.iter().map(ConfirmedUtxo::outpoint).collect();
	inputs.push(shared().0);
	let mut tx = spend(&inputs, 460_000, ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([1; 32])));
	tx.output.extend(held.change_output.clone());
	tx
}

async fn holding() -> (Bench, CoinSelection) {
	let bench = Bench::new().await;
	bench.receive(&[100_000, 50_000]).await;
	let held = bench.wallet.hold_for_splice(terms(), sats(60_000), RATE, Amount::ZERO).unwrap();
	bench.wallet.keep_splice(7, sats(60_000), sats(400));
	(bench, held)
}

#[tokio::test]
async fn r4_what_is_held_for_a_splice_is_spent_by_nothing_else_until_it_is_freed() {
	let (bench, held) = holding().await;
	assert_eq!(held.confirmed_utxos.len(), 1);
	let (coin, change) = (held.confirmed_utxos[0].output().value, held.change_output.as_ref().unwrap().value);
	let fee = coin - change - sats(60_000);
	// Ours: everything but the peer's signature of its own input.
	let weight = 42 + SHARED_INPUT_WEIGHT + 230 + 172 + 172;
	let needed = RATE.fee_wu(bitcoin::Weight::from_wu(weight)).unwrap();
	assert!(fee >= needed && fee <= needed + sats(2), "{fee} for {needed}");

	let bench = bench.restart().await;
	assert_eq!(bench.wallet.spendable(), sats(50_000));
	assert_eq!(bench.wallet.list_confirmed_utxos().await.unwrap().len(), 1, "nor by a fee bump");
	assert_eq!(bench.wallet.total(), sats(150_000), "it is still ours");
	bench.wallet.free_splice(7);
	let bench = bench.restart().await;
	assert_eq!((bench.wallet.spendable(), bench.wallet.splices()), (sats(150_000), vec![]));
}

#[tokio::test]
async fn r4_a_splice_is_signed_once_and_its_signature_survives() {
	let (bench, held) = holding().await;
	let tx = built(&held);
	let signed = bench.wallet.sign_splice(7, tx.clone(), shared(), 0).await.unwrap();
	assert_eq!(signed.compute_txid(), tx.compute_txid());
	let witnesses: Vec<usize> = signed.input.iter().map(|input| input.witness.len()).collect();
	assert_eq!(witnesses, [1, 0], "our coin, and not the channel's");
	let funding = OutPoint { txid: tx.compute_txid(), vout: 0 };

	let bench = bench.restart().await;
	bench.wallet.saw_mempool(|_| false);
	assert_eq!(bench.wallet.splice(7).unwrap().funding(), Some(funding));
	assert_eq!(bench.wallet.spendable(), sats(50_000), "the change is not confirmed");
	assert_eq!(bench.wallet.sign_splice(7, tx.clone(), shared(), 0).await.unwrap(), signed, "asked again");
	let mut other = tx.clone();
	other.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
	let refused = bench.wallet.sign_splice(7, other, shared(), 0).await;
	assert!(refused.is_err(), "one transaction for each splice");
	assert!(bench.wallet.is_splicing(&[9; 32]));

	bench.mine(vec![signed]);
	assert!(!bench.wallet.is_splicing(&[9; 32]));
	bench.wallet.free_splice(7);
	assert!(bench.wallet.splice_of(&funding.txid).is_some(), "what is mined stays");
}

#[tokio::test]
async fn r4_a_splice_that_will_never_be_gives_its_coins_back() {
	let (bench, held) = holding().await;
	bench.wallet.sign_splice(7, built(&held), shared(), 0).await.unwrap();
	bench.wallet.free_splice(7);
	assert_eq!((bench.wallet.spendable(), bench.wallet.total()), (sats(150_000), sats(150_000)));
}

/// The channel is closed by another spend of its old funding, while nobody has the splice, or while all have it: six blocks later
/// it can never be, and not before.
#[tokio::test]
async fn r4_a_splice_whose_channel_was_closed_instead_is_impossible_when_that_is_deep() {
	for is_sent in [false, true] {
		let (bench, held) = holding().await;
		let signed = bench.wallet.sign_splice(7, built(&held), shared(), 0).await.unwrap();
		let txid = signed.compute_txid();
		assert_eq!((bench.wallet.is_out(&txid), bench.broadcaster.waiting()), (false, (0, 0)));
		if is_sent {
			let kind = TransactionType::InteractiveFunding { candidates: vec![] };
			bench.broadcaster.broadcast_transactions(&[(&signed, kind)]);
			assert!(bench.wallet.is_out(&txid));
		}
		let bench = bench.restart().await;
		assert_eq!(bench.wallet.is_out(&txid), is_sent, "after a restart");
		let is_impossible = |bench: &Bench| bench.wallet.is_splice_impossible(&bench.wallet.splice(7).unwrap());
		bench.mine(vec![spend(&[shared().0], 399_000, ScriptBuf::new())]);
		let mine = |bench: &Bench, blocks: u32| (0..blocks).for_each(|_| bench.mine(vec![]));
		mine(&bench, 4);
		assert!(!is_impossible(&bench), "five blocks");
		bench.undo_block();
		mine(&bench, 1);
		assert!(!is_impossible(&bench), "five blocks again");
		mine(&bench, 1);
		assert!(is_impossible(&bench));
		mine(&bench, 20);
		let bench = bench.restart().await;
		assert!(is_impossible(&bench), "until it is freed");
		assert_eq!(bench.broadcaster.troubles().len(), 1, "and told, if nobody frees it");
		bench.wallet.free_splice(7);
		assert_eq!((bench.wallet.spendable(), bench.broadcaster.troubles()), (sats(150_000), vec![]));
		assert_eq!(bench.broadcaster.to_ask(), vec![]);
	}
}

#[tokio::test]
async fn r4_only_what_was_agreed_is_signed() {
	let (bench, held) = holding().await;
	let refused = async |tx: Transaction, vout: u32| {
		let refused = bench.wallet.sign_splice(7, tx, shared(), vout).await;
		assert!(matches!(refused, Err(WalletError::Build(_))), "{refused:?}");
	};
	let mut without_change = built(&held);
	without_change.output.truncate(1);
	refused(without_change, 0).await;
	let mut less_change = built(&held);
	less_change.output[1].value -= sats(1);
	refused(less_change, 0).await;
	let mut more_inputs = built(&held);
	more_inputs.input.extend(spend(&[OutPoint { txid: Txid::all_zeros(), vout: 5 }], 1, ScriptBuf::new()).input);
	refused(more_inputs, 0).await;
	refused(built(&held), 1).await;
	refused(built(&held), 2).await;
	assert_eq!(bench.wallet.splice(7).unwrap().tx, None);
}
