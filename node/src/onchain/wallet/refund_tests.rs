use super::super::super::broadcast::NotSent;
use super::super::super::testing::{Bench, Recorder, payment, spend};
use super::*;
use std::time::Instant;

const RATE: FeeRate = FeeRate::from_sat_per_kwu(500);
const HIGH: FeeRate = FeeRate::from_sat_per_kwu(2_500);

fn sats(sats: u64) -> Amount {
	Amount::from_sat(sats)
}

fn client() -> Address {
	let script = ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::all_zeros());
	Address::from_script(&script, bitcoin::Network::Regtest).unwrap()
}

/// A payment of a client in the chain.
async fn paid(bench: &Bench, value: u64) -> (Transaction, OutPoint) {
	let script = bench.wallet.new_address().await.unwrap().script_pubkey();
	let tx = payment(value, script);
	bench.mine(vec![tx.clone()]);
	let outpoint = OutPoint::new(tx.compute_txid(), 0);
	(tx, outpoint)
}

async fn refund(bench: &Bench, marker: &str, amount: u64, from: &[OutPoint]) -> Refunded {
	bench.wallet.pay_refund(marker, client(), sats(amount), RATE, from).await.unwrap()
}

async fn bump(bench: &Bench, rate: FeeRate) -> Bumped {
	bench.wallet.bump_refund("o", &client(), rate).await.unwrap()
}

fn spends(tx: &Transaction) -> Vec<OutPoint> {
	let mut inputs: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
	inputs.sort();
	inputs
}

async fn flush(bench: &Bench, answers: impl IntoIterator<Item = Result<(), NotSent>>) -> Vec<Vec<Txid>> {
	let outlet = Recorder::answering(answers);
	bench.broadcaster.flush(&outlet, Instant::now(), true).await.unwrap();
	outlet.take()
}

#[tokio::test]
async fn l1_28_r19_a_refund_spends_the_payment_that_it_gives_back() {
	let bench = Bench::new().await;
	bench.receive(&[1_000_000, 60_000]).await;
	let (_, own) = paid(&bench, 50_000).await;
	let sent = refund(&bench, "o", 50_000, &[own]).await;
	assert_eq!(spends(&sent.tx), [own], "not the smaller risk of another coin");
	assert_eq!((sent.tx.output.len(), sent.borne), (1, sats(0)));
	assert_eq!(sent.tx.output[0].value + sent.fee, sats(50_000), "the client bears the fee");
	// If something else has spent it, other coins pay.
	let (_, spent) = paid(&bench, 40_000).await;
	bench
		.wallet
		.fund(ScriptBuf::new_p2wsh(&bitcoin::hashes::Hash::all_zeros()), sats(39_000), RATE, sats(0))
		.await
		.unwrap();
	let other = refund(&bench, "p", 40_000, &[spent]).await;
	assert!(!spends(&other.tx).contains(&spent));
}

#[tokio::test]
async fn r19_no_refund_is_made_of_a_payment_that_is_not_in_the_chain() {
	let bench = Bench::new().await;
	bench.receive(&[1_000_000]).await;
	let unknown = OutPoint::new(payment(1, ScriptBuf::new()).compute_txid(), 0);
	let refused = bench.wallet.pay_refund("o", client(), sats(50_000), RATE, &[unknown]).await;
	assert!(matches!(refused, Err(WalletError::Gone)), "{refused:?}");
	let (tx, own) = paid(&bench, 50_000).await;
	bench.undo_block();
	bench.mine(vec![]);
	let refused = bench.wallet.pay_refund("o", client(), sats(50_000), RATE, &[own]).await;
	assert!(matches!(refused, Err(WalletError::Gone)), "reorganised: {refused:?}");
	bench.mine(vec![tx]);
	assert_eq!(spends(&refund(&bench, "o", 50_000, &[own]).await.tx), [own]);
}

#[tokio::test]
async fn l1_28_a_raised_fee_spends_the_same_coins_also_across_a_restart() {
	let bench = Bench::new().await;
	let (_, own) = paid(&bench, 50_000).await;
	let first = refund(&bench, "o", 50_000, &[own]).await;
	let Bumped::Sent(second) = bump(&bench, HIGH).await else { panic!("not raised") };
	assert_eq!(spends(&second.tx), [own]);
	assert_ne!(second.tx.compute_txid(), first.tx.compute_txid());
	assert_eq!(second.fee, HIGH.fee_wu(first.tx.weight()).unwrap());
	assert_eq!((paid_to(&second.tx, &client().script_pubkey()), second.borne), (sats(50_000) - second.fee, sats(0)));
	assert!(
		!bench.broadcaster.contains(&first.tx.compute_txid()) && bench.broadcaster.contains(&second.tx.compute_txid())
	);
	let bench = bench.restart().await;
	assert_eq!(refund(&bench, "o", 1, &[]).await, second, "asked again, the same is sent again");
	// The market has fallen: it is raised all the same, by a quarter.
	let Bumped::Sent(third) = bump(&bench, RATE).await else { panic!("not raised") };
	assert_eq!(third.fee.to_sat(), (second.fee.to_sat() * 5).div_ceil(4));
	assert_eq!(spends(&third.tx), [own]);
	// An earlier one is mined after all: nothing is raised any more.
	bench.mine(vec![second.tx.clone()]);
	let Bumped::Sent(last) = bump(&bench, HIGH).await else { panic!("lost") };
	assert_eq!(last, second, "what is mined is told, not what is newest");
	assert_eq!(refund(&bench, "o", 50_000, &[own]).await, second);
	assert_eq!(bench.wallet.confirmations_of(second.tx.compute_txid()), 1);
	assert_eq!(bench.wallet.confirmations_of(third.tx.compute_txid()), 0);
	assert_eq!(bench.wallet.spendable(), sats(0));
}

#[tokio::test]
async fn l1_28_the_change_bears_what_the_recipient_cannot() {
	let bench = Bench::new().await;
	let (_, own) = paid(&bench, 50_000).await;
	let first = refund(&bench, "o", 900, &[own]).await;
	let Bumped::Sent(second) = bump(&bench, HIGH).await else { panic!("not raised") };
	assert_eq!(paid_to(&second.tx, &client().script_pubkey()), paid_to(&first.tx, &client().script_pubkey()));
	assert_eq!(second.borne, second.fee - first.fee);
	let paid_out: Amount = second.tx.output.iter().map(|output| output.value).sum();
	assert_eq!(paid_out + second.fee, sats(50_000));
}

#[tokio::test]
async fn r5_r19_a_refund_whose_payment_was_taken_back_is_withdrawn_for_ever() {
	let bench = Bench::new().await;
	let (tx, own) = paid(&bench, 50_000).await;
	let sent = refund(&bench, "o", 50_000, &[own]).await;
	bench.undo_block();
	bench.mine(vec![]);
	assert_eq!(bump(&bench, HIGH).await, Bumped::Waits, "nobody has refused it yet");
	flush(&bench, [Err(NotSent::Refused("bad-txns-inputs-missingorspent".into()))]).await;
	assert_eq!(bump(&bench, HIGH).await, Bumped::Lost);
	let bench = bench.restart().await;
	assert!(!bench.broadcaster.contains(&sent.tx.compute_txid()), "never sent again");
	assert_eq!(bump(&bench, HIGH).await, Bumped::Lost);
	let again = bench.wallet.pay_refund("o", client(), sats(50_000), RATE, &[]).await;
	assert!(matches!(again, Err(WalletError::Gone)), "{again:?}");
	// The payment is back: the next refund spends it, so that the withdrawn one never can.
	bench.mine(vec![tx]);
	assert_eq!(spends(&refund(&bench, "o_1", 50_000, &[own]).await.tx), [own]);
}

/// A channel's funding that the backend was given.
async fn funding_of(bench: &Bench, id: u128) -> Transaction {
	bench.receive(&[100_000]).await;
	let script = ScriptBuf::new_p2wsh(&bitcoin::hashes::Hash::all_zeros());
	let funding = bench.wallet.fund_for(Some(id), script, sats(50_000), RATE, sats(0)).await.unwrap().tx;
	bench.broadcaster.send(vec![funding.clone()]);
	funding
}

#[tokio::test]
async fn r12_r6_the_wallet_knows_which_channel_a_funding_is_for_whatever_ldk_knows() {
	let bench = Bench::new().await;
	let funding = funding_of(&bench, u128::MAX - 7).await;
	let bench = bench.restart().await;
	let outpoint = bench.wallet.funding_of(u128::MAX - 7).unwrap();
	assert_eq!(outpoint.txid, funding.compute_txid());
	assert_eq!(funding.output[outpoint.vout as usize].value, sats(50_000));
	assert_eq!(bench.wallet.funding_of(7), None);
	bench.mine(vec![funding]);
	(0..10).for_each(|_| bench.mine(vec![]));
	bench.wallet.tidy();
	assert!(bench.wallet.funding_of(u128::MAX - 7).is_some(), "also when it is deep");
}

#[tokio::test]
async fn r12_funding_rows_of_earlier_versions_still_hold_their_coins() {
	let bench = Bench::new().await;
	let tx = funding_of(&bench, 7).await;
	bench.wallet.keep().write(Folder::Funding, &tx.compute_txid().to_string(), bitcoin::consensus::serialize(&tx));
	bench.wallet.save().await;
	let bench = bench.restart().await;
	assert_eq!((bench.wallet.funding_of(7), bench.wallet.spendable()), (None, sats(0)));
	assert!(bench.wallet.is_held(&tx.compute_txid()));
}

#[tokio::test]
async fn r6_a_funding_that_is_mined_was_not_refused() {
	let bench = Bench::new().await;
	let funding = funding_of(&bench, 7).await;
	flush(&bench, [Err(NotSent::Refused("mempool full".into()))]).await;
	// The broadcaster hears of a block before the wallet does, or after it.
	bench.broadcaster.block_connected(std::slice::from_ref(&funding), 2);
	let txid = funding.compute_txid();
	assert!(!bench.wallet.is_refused(&txid) && !bench.wallet.withdraw(txid).await && bench.wallet.is_out(&txid));
}

/// A backend that has the transaction in its hands until it is told to answer.
struct Slow(tokio::sync::Semaphore, tokio::sync::Semaphore);

impl super::super::super::broadcast::Outlet for Slow {
	async fn submit(&self, _: &[Transaction]) -> Result<(), NotSent> {
		self.0.add_permits(1);
		self.1.acquire().await.unwrap().forget();
		Ok(())
	}

	async fn has(&self, package: &[Transaction]) -> Result<(), NotSent> {
		self.submit(package).await
	}
}

#[tokio::test]
async fn r6_what_is_on_its_way_to_the_backend_is_not_withdrawn() {
	let bench = Bench::new().await;
	let txid = funding_of(&bench, 7).await.compute_txid();
	flush(&bench, [Err(NotSent::Refused("mempool full".into()))]).await;
	assert!(bench.wallet.is_refused(&txid));
	let slow = Slow(tokio::sync::Semaphore::new(0), tokio::sync::Semaphore::new(0));
	let sent = bench.broadcaster.flush(&slow, Instant::now(), true);
	let meanwhile = async {
		slow.0.acquire().await.unwrap().forget();
		assert!(!bench.wallet.is_refused(&txid) && !bench.wallet.withdraw(txid).await);
		slow.1.add_permits(1);
	};
	let (sent, ()) = tokio::join!(sent, meanwhile);
	assert!(sent.is_ok() && bench.wallet.is_taken(&txid), "and what it says then holds");
}

#[tokio::test]
async fn r6_an_outage_takes_back_what_the_backend_said() {
	let bench = Bench::new().await;
	let txid = funding_of(&bench, 7).await.compute_txid();
	flush(&bench, [Err(NotSent::Refused("mempool full".into()))]).await;
	let away = Recorder::answering([Err(NotSent::Unreachable("the answer was lost".into()))]);
	assert!(bench.broadcaster.flush(&away, Instant::now(), true).await.is_err());
	assert!(!bench.wallet.is_refused(&txid) && !bench.wallet.withdraw(txid).await, "it may have arrived");
}

#[tokio::test]
async fn r6_a_funding_that_is_held_back_is_not_sent_and_goes_if_nobody_has_it() {
	let bench = Bench::new().await;
	let txid = funding_of(&bench, 7).await.compute_txid();
	let away = || Recorder::answering([Err(NotSent::Unreachable("nobody is there".into()))]);
	assert!(bench.broadcaster.flush(&away(), Instant::now(), true).await.is_err());
	bench.wallet.hold_back(&txid, true);
	assert!(bench.broadcaster.flush(&away(), Instant::now(), true).await.is_err());
	assert!(!bench.wallet.is_refused(&txid) && !bench.wallet.withdraw(txid).await, "it may have arrived");
	// It has: what is held back is delivered.
	assert!(flush(&bench, [Ok(())]).await.is_empty());
	assert!(bench.wallet.is_taken(&txid) && !bench.wallet.withdraw(txid).await);

	let bench = Bench::new().await;
	let txid = funding_of(&bench, 7).await.compute_txid();
	assert!(bench.broadcaster.flush(&away(), Instant::now(), true).await.is_err());
	bench.wallet.hold_back(&txid, true);
	let bench = bench.restart().await;
	assert!(flush(&bench, []).await.is_empty(), "nor by the next run");
	assert!(bench.wallet.is_refused(&txid));
	// The client has used the channel after all, and then it has not.
	bench.wallet.hold_back(&txid, false);
	assert_eq!(flush(&bench, [Err(NotSent::Refused("mempool full".into()))]).await, [[txid]]);
	bench.wallet.hold_back(&txid, true);
	assert!(flush(&bench, []).await.is_empty());
	assert!(bench.wallet.withdraw(txid).await && !bench.wallet.is_out(&txid));
}

#[tokio::test]
async fn r6_what_spends_a_withdrawn_funding_goes_with_it_and_frees_its_coins() {
	let bench = Bench::new().await;
	let funding = funding_of(&bench, 7).await;
	let txid = funding.compute_txid();
	let commitment = spend(&[OutPoint { txid, vout: 0 }], 40_000, ScriptBuf::new());
	bench.broadcaster.send(vec![commitment.clone()]);
	let refused = || Err(NotSent::Refused("missing-inputs".into()));
	flush(&bench, [refused(), refused()]).await;
	assert!(bench.wallet.withdraw(txid).await);
	assert!(!bench.broadcaster.contains(&txid) && !bench.broadcaster.contains(&commitment.compute_txid()));
	let bench = bench.restart().await;
	assert_eq!(bench.broadcaster.waiting(), (0, 0), "also after a restart");
	assert_eq!((bench.wallet.funding_of(7), bench.wallet.spendable()), (None, sats(100_000)));
}

/// A hundred others have been given an address since: it is asked for all the same.
#[tokio::test]
async fn l1_27_an_address_that_awaits_a_payment_is_looked_at_however_many_came_after_it() {
	let bench = Bench::new().await;
	let victim = bench.wallet.new_address().await.unwrap();
	for _ in 0..100 {
		bench.wallet.new_address().await.unwrap();
	}
	let is_asked = || {
		let scope = crate::onchain::follow::Scope::Hot;
		let mut request = bench.wallet.sync_request(scope);
		request
			.iter_spks_with_expected_txids()
			.map(|asked| asked.spk)
			.collect::<Vec<_>>()
			.contains(&victim.script_pubkey())
	};
	assert!(!is_asked());
	bench.wallet.await_payments([victim.to_string()]);
	assert!(is_asked());
}

#[tokio::test]
async fn r6_a_funding_is_taken_when_the_backend_has_said_so() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let script = ScriptBuf::new_p2wsh(&bitcoin::hashes::Hash::all_zeros());
	let funding = bench.wallet.fund(script, sats(50_000), RATE, sats(0)).await.unwrap().tx;
	let txid = funding.compute_txid();
	bench.broadcaster.send(vec![funding.clone()]);
	assert!(bench.wallet.is_out(&txid) && !bench.wallet.is_taken(&txid) && !bench.wallet.is_refused(&txid));
	flush(&bench, [Err(NotSent::Refused("min relay fee not met".into()))]).await;
	assert!(bench.wallet.is_refused(&txid) && !bench.wallet.is_taken(&txid));
	flush(&bench, [Ok(())]).await;
	assert!(bench.wallet.is_taken(&txid) && !bench.wallet.is_refused(&txid));
	let bench = bench.restart().await;
	assert!(!bench.wallet.is_taken(&txid), "this run has not heard of it yet");
	flush(&bench, [Ok(())]).await;
	assert!(bench.wallet.is_taken(&txid));
	flush(&bench, [Err(NotSent::Refused("conflict".into()))]).await;
	assert!(bench.wallet.withdraw(txid).await);
	assert!(!bench.wallet.is_out(&txid));
	assert_eq!(
		bench.wallet.spendable(),
		sats(100_000),
		"its coin is free: once it is spent the funding can never be mined"
	);
}
