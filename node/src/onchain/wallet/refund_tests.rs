use super::super::super::broadcast::NotSent;
use super::super::super::testing::{Bench, Recorder, payment};
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
	assert_eq!(last, third);
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
	bench.wallet.withdraw(txid).await;
	assert!(!bench.wallet.is_out(&txid));
	assert_eq!(
		bench.wallet.spendable(),
		sats(100_000),
		"its coin is free: once it is spent the funding can never be mined"
	);
}
