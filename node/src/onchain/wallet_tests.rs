//! Coins are locked, kept and freed; money leaves at most once.

use super::super::broadcast::NotSent;
use super::super::testing::{Bench, Recorder, payment, spend};
use super::*;
use bitcoin::hashes::Hash;
use bitcoin::{PubkeyHash, WScriptHash};
use lightning::chain::chaininterface::{BroadcasterInterface, TransactionType};
use lightning::util::wallet_utils::WalletSource;
use std::time::Instant;

const RATE: FeeRate = FeeRate::from_sat_per_kwu(500);

fn sats(sats: u64) -> Amount {
	Amount::from_sat(sats)
}

fn channel() -> ScriptBuf {
	ScriptBuf::new_p2wsh(&WScriptHash::all_zeros())
}

fn elsewhere() -> Address {
	Address::p2pkh(PubkeyHash::all_zeros(), Network::Regtest)
}

#[tokio::test]
async fn r4_funding_locks_its_coins_until_released() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let funded = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
	assert_eq!(bench.wallet.spendable(), Amount::ZERO, "change is not confirmed, the coin is locked");
	let again = bench.wallet.fund(channel(), sats(10_000), RATE, Amount::ZERO).await;
	assert!(matches!(again, Err(WalletError::Short { available: Amount::ZERO, .. })), "{again:?}");
	bench.wallet.release(funded.tx.compute_txid()).await;
	assert_eq!(bench.wallet.spendable(), sats(100_000));
	let same = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
	assert_eq!(same.fee, funded.fee);
	assert_eq!(bench.wallet.spendable(), Amount::ZERO, "a coin can be locked again in the same second");
}

#[tokio::test]
async fn a_funding_transaction_pays_what_was_asked_and_is_signed() {
	let bench = Bench::new().await;
	bench.receive(&[70_000, 80_000]).await;
	let funded = bench.wallet.fund(channel(), sats(120_000), RATE, Amount::ZERO).await.unwrap();
	let paid = funded.tx.output.iter().find(|output| output.script_pubkey == channel()).unwrap();
	assert_eq!(paid.value, sats(120_000));
	let out: Amount = funded.tx.output.iter().map(|output| output.value).sum();
	assert_eq!(sats(150_000) - out, funded.fee);
	assert!(funded.tx.input.iter().all(|input| input.witness.len() == 1), "key spends");
	let needed = RATE.fee_wu(funded.tx.weight()).unwrap();
	assert!(funded.fee >= needed && funded.fee <= needed + sats(2), "{} for {needed}", funded.fee);
}

#[tokio::test]
async fn locks_survive_a_restart_and_the_mempools_ignorance() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let funded = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
	let bench = bench.restart().await;
	bench.wallet.saw_mempool(|_| false);
	assert_eq!(bench.wallet.spendable(), Amount::ZERO);
	assert_eq!(bench.wallet.funded(), [funded.tx.compute_txid()]);
	bench.wallet.release(funded.tx.compute_txid()).await;
	let bench = bench.restart().await;
	assert_eq!(bench.wallet.spendable(), sats(100_000));
	assert!(bench.wallet.funded().is_empty());
}

#[tokio::test]
async fn a_funding_transaction_that_is_being_broadcast_is_not_released() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let funded = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
	bench.broadcaster.send(vec![funded.tx.clone()]);
	bench.wallet.release(funded.tx.compute_txid()).await;
	assert_eq!(bench.wallet.spendable(), Amount::ZERO);
}

#[tokio::test]
async fn r12_a_withheld_funding_transaction_can_be_broadcast_after_a_restart_and_not_after_its_release() {
	let bench = Bench::new().await;
	bench.receive(&[100_000, 100_000]).await;
	let mut funded = Vec::new();
	for _ in 0..2 {
		let made = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
		funded.push(made.tx.compute_txid());
	}
	bench.wallet.release(funded[1]).await;
	let bench = bench.restart().await;
	let wallet = &bench.wallet;
	assert!(wallet.is_withheld(&funded[0]) && wallet.is_unsent(&funded[0]));
	assert!(!wallet.is_withheld(&funded[1]) && wallet.is_unsent(&funded[1]), "it will never be on the chain");
	assert!(!wallet.broadcast_funding(&funded[1]), "its coins are spent elsewhere");
	for _again in 0..2 {
		assert!(wallet.broadcast_funding(&funded[0]));
		assert!(wallet.is_out(&funded[0]) && !wallet.is_withheld(&funded[0]) && !wallet.is_unsent(&funded[0]));
	}
	assert_eq!(bench.broadcaster.in_flight().len(), 1);
	let refusal = Recorder::answering([Err(NotSent::Refused("min relay fee not met".into()))]);
	bench.broadcaster.flush(&refusal, Instant::now(), false).await.unwrap();
	let trouble = &bench.broadcaster.troubles()[0].text;
	assert!(trouble.starts_with("the funding transaction of a channel"), "{trouble}");
}

/// The closing of a channel, which pays to us.
fn closing_of(bench: &Bench, funding: Txid) -> Transaction {
	spend(&[OutPoint { txid: funding, vout: 0 }], 40_000, bench.wallet.destination_script().unwrap())
}

#[tokio::test]
async fn r4_the_closing_of_a_discarded_channel_is_not_sent_any_more() {
	let bench = Bench::new().await;
	bench.receive(&[100_000, 100_000]).await;
	let fund = async || bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap().tx.compute_txid();
	let (discarded, other) = (fund().await, fund().await);
	let (closing, others) = (closing_of(&bench, discarded), closing_of(&bench, other));
	// Forced, it has a child that pays its fee from the wallet.
	let commitment = closing_of(&bench, discarded);
	let bump = spend(&[OutPoint { txid: commitment.compute_txid(), vout: 0 }], 30_000, ScriptBuf::new());
	bench.broadcaster.send(vec![closing]);
	bench.broadcaster.send(vec![others.clone()]);
	bench.broadcaster.send(vec![bump, commitment]);

	let bench = bench.restart().await;
	assert_eq!(bench.broadcaster.waiting().0, 3);
	bench.wallet.release(discarded).await;
	assert_eq!(bench.wallet.spendable(), sats(100_000), "the coins are free");
	let closings = bench.wallet.utxos().into_iter().filter(|coin| coin.value == sats(40_000)).count();
	assert_eq!(closings, 1, "what never comes is not counted");
	let backend = Recorder::default();
	bench.broadcaster.flush(&backend, Instant::now(), true).await.unwrap();
	assert_eq!(backend.take(), [[others.compute_txid()]]);
	let bench = bench.restart().await;
	assert_eq!(bench.broadcaster.waiting().0, 1, "and that is durable");
}

#[tokio::test]
async fn r4_the_closing_of_a_channel_whose_funding_goes_out_stays() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let funded = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await.unwrap();
	let txid = funded.tx.compute_txid();
	let closing = closing_of(&bench, txid);
	bench.broadcaster.send(vec![closing.clone()]);
	assert!(bench.wallet.broadcast_funding(&txid));
	bench.wallet.release(txid).await;
	assert!(bench.broadcaster.contains(&txid) && bench.broadcaster.contains(&closing.compute_txid()));
}

#[tokio::test]
async fn r4_only_confirmed_coins_fund() {
	let bench = Bench::new().await;
	let script = bench.wallet.new_address().await.unwrap().script_pubkey();
	bench.wallet.saw_unconfirmed(vec![payment(100_000, script)]);
	assert_eq!(bench.wallet.balance().untrusted_pending, sats(100_000));
	let refused = bench.wallet.fund(channel(), sats(50_000), RATE, Amount::ZERO).await;
	assert!(matches!(refused, Err(WalletError::Short { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_must_be_kept_is_kept_and_the_refusal_has_the_numbers() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let Err(WalletError::Short { needed, available, reserved }) =
		bench.wallet.fund(channel(), sats(80_000), RATE, sats(30_000)).await
	else {
		panic!("30,000 of 100,000 sat must be kept")
	};
	assert!(needed > sats(80_000) && needed < sats(81_000));
	assert_eq!((available, reserved), (sats(100_000), sats(30_000)));
	assert_eq!(bench.wallet.spendable(), sats(100_000), "a refusal locks nothing");
}

#[tokio::test]
async fn addresses_of_another_network_are_refused() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let mainnet = Address::p2pkh(PubkeyHash::all_zeros(), Network::Bitcoin);
	let refused = bench.wallet.send(mainnet, Some(sats(10_000)), None, Amount::ZERO).await;
	assert!(matches!(refused, Err(WalletError::WrongNetwork { .. })), "{refused:?}");
}

#[tokio::test]
async fn dust_is_refused() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let refused = bench.wallet.send(elsewhere(), Some(sats(300)), None, Amount::ZERO).await;
	assert!(matches!(refused, Err(WalletError::Dust { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_refused_payment_frees_its_coins() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let backend = Recorder::answering([Err(NotSent::Refused("min relay fee not met".into()))]);
	let answer = async {
		bench.broadcaster.wanted().await;
		bench.broadcaster.flush(&backend, Instant::now(), false).await
	};
	let (sent, _) = tokio::join!(bench.wallet.send(elsewhere(), Some(sats(10_000)), None, Amount::ZERO), answer);
	assert!(matches!(sent, Err(WalletError::Refused(_))), "{sent:?}");
	assert_eq!(bench.wallet.spendable(), sats(100_000));
	assert_eq!(bench.broadcaster.waiting(), (0, 0));
}

#[tokio::test]
async fn a_marker_is_refunded_once_also_across_a_restart() {
	let bench = Bench::new().await;
	bench.receive(&[100_000, 200_000]).await;
	let pay =
		async |bench: &Bench| bench.wallet.pay_refund("order-1", elsewhere(), sats(50_000), RATE, &[]).await.unwrap();
	let first = pay(&bench).await;
	let (again, other) =
		tokio::join!(pay(&bench), bench.wallet.pay_refund("order-2", elsewhere(), sats(50_000), RATE, &[]));
	assert_eq!(again.tx, first.tx);
	assert_ne!(other.unwrap().tx, first.tx);
	let out = first.tx.output.iter().find(|o| o.script_pubkey == elsewhere().script_pubkey()).unwrap();
	assert_eq!(out.value + first.fee, sats(50_000), "the fee is taken off");
	let bench = bench.restart().await;
	assert_eq!(pay(&bench).await.tx, first.tx);
	assert!(bench.broadcaster.contains(&first.tx.compute_txid()));
}

fn activity(bench: &Bench, address: &str) -> Vec<Received> {
	bench.wallet.activities(&[address]).remove(address).unwrap_or_default()
}

#[tokio::test]
async fn activity_follows_a_payment_from_the_mempool_into_blocks() {
	let bench = Bench::new().await;
	let address = bench.wallet.new_address().await.unwrap();
	let tx = payment(42_000, address.script_pubkey());
	bench.wallet.saw_unconfirmed(vec![tx.clone()]);
	let text = address.to_string();
	let seen = activity(&bench, &text);
	assert_eq!((seen.len(), seen[0].value, seen[0].confirmations, seen[0].feerate), (1, Sat(42_000), 0, None));
	let prevout = bitcoin::TxOut { value: sats(43_000), script_pubkey: ScriptBuf::new() };
	assert_eq!(bench.wallet.missing_prevouts(), [tx.input[0].previous_output]);
	bench.wallet.learn_prevout(tx.input[0].previous_output, prevout);
	assert!(activity(&bench, &text)[0].feerate.is_some_and(|rate| rate.0 > 1_000));
	bench.mine(vec![tx.clone()]);
	bench.mine(vec![]);
	assert_eq!(activity(&bench, &text)[0].confirmations, 2);
	assert!(activity(&bench, "not an address").is_empty());
	// A coin that was spent since was received all the same.
	bench.wallet.fund(channel(), sats(30_000), RATE, Amount::ZERO).await.unwrap();
	assert_eq!(activity(&bench, &text).len(), 1);
}

#[tokio::test]
async fn an_evicted_payment_is_gone() {
	let bench = Bench::new().await;
	let address = bench.wallet.new_address().await.unwrap();
	bench.wallet.saw_unconfirmed(vec![payment(42_000, address.script_pubkey())]);
	bench.wallet.saw_mempool(|_| false);
	assert!(activity(&bench, &address.to_string()).is_empty());
}

#[tokio::test]
async fn a_reorganisation_takes_a_payment_back() {
	let bench = Bench::new().await;
	bench.mine(vec![]);
	let address = bench.wallet.new_address().await.unwrap();
	let tx = payment(42_000, address.script_pubkey());
	bench.mine(vec![tx.clone()]);
	assert_eq!(bench.wallet.spendable(), sats(42_000));
	bench.undo_block();
	bench.mine(vec![]);
	bench.mine(vec![]);
	assert_eq!(bench.wallet.spendable(), Amount::ZERO);
	bench.mine(vec![tx]);
	assert_eq!(activity(&bench, &address.to_string())[0].confirmations, 1);
}

#[tokio::test]
async fn addresses_are_never_given_twice_and_scripts_are_bounded() {
	let bench = Bench::new().await;
	let first = bench.wallet.new_address().await.unwrap();
	let bench = bench.restart().await;
	assert_ne!(bench.wallet.new_address().await.unwrap(), first);
	let scripts: std::collections::HashSet<ScriptBuf> =
		(0..MAX_UNUSED_SCRIPTS + 50).map(|_| bench.wallet.destination_script().unwrap()).collect();
	assert_eq!(scripts.len(), MAX_UNUSED_SCRIPTS);
}

#[tokio::test]
async fn another_seed_does_not_open_this_wallet() {
	let bench = Bench::new().await;
	let other = Xpriv::new_master(Network::Regtest, &[8; 32]).unwrap();
	let fees = Arc::new(Fees::new(Network::Regtest));
	let opened = Wallet::open(bench.store.clone(), other, Network::Regtest, fees, Arc::clone(&bench.broadcaster)).await;
	assert!(matches!(opened, Err(WalletError::Load(_))));
}

#[tokio::test]
async fn ldk_can_sign_our_input_beside_one_of_its_own() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let coin = bench.wallet.list_confirmed_utxos().await.unwrap().remove(0);
	let anchor = payment(330, channel());
	let inputs = [OutPoint { txid: anchor.compute_txid(), vout: 0 }, coin.outpoint];
	let tx = super::super::testing::spend(&inputs, 90_000, bench.wallet.get_change_script().await.unwrap());
	let mut psbt = Psbt::from_unsigned_tx(tx).unwrap();
	psbt.inputs[0].witness_utxo = Some(anchor.output[0].clone());
	psbt.inputs[1].witness_utxo = Some(coin.output.clone());
	let signed = bench.wallet.sign_psbt(psbt).await.unwrap();
	assert!(signed.input[0].witness.is_empty(), "the anchor is LDK's to sign");
	let weight = signed.input[1].witness.size() as u64 + 4;
	assert_eq!(weight, coin.satisfaction_weight, "LDK reckons with what we sign");
	let prevtx = bench.wallet.get_prevtx(coin.outpoint).await.unwrap();
	assert_eq!(prevtx.output[coin.outpoint.vout as usize], coin.output);
}

#[tokio::test]
async fn a_fee_bump_can_spend_its_coin_again_and_nothing_else_can() {
	use lightning::chain::chaininterface::{BroadcasterInterface, TransactionType};
	use lightning::ln::types::ChannelId;
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let coin = bench.wallet.list_confirmed_utxos().await.unwrap().remove(0);
	let bump = super::super::testing::spend(&[coin.outpoint], 90_000, ScriptBuf::new());
	let peer = bitcoin::secp256k1::PublicKey::from_slice(&[2; 33]).unwrap();
	let kind = TransactionType::AnchorBump { counterparty_node_id: peer, channel_id: ChannelId([0; 32]) };
	bench.broadcaster.broadcast_transactions(&[(&bump, kind)]);
	assert_eq!(bench.wallet.list_confirmed_utxos().await.unwrap(), [coin]);
	assert_eq!(bench.wallet.spendable(), Amount::ZERO);
}

#[tokio::test]
async fn a_new_wallet_starts_at_its_birthday_and_knows_the_blocks_before() {
	let bench = Bench::new().await;
	let hash = |n: u8| bitcoin::BlockHash::from_byte_array([n; 32]);
	let mut birthday = lightning::chain::BlockLocator::new(hash(10), 10);
	birthday.previous_blocks[0] = Some(hash(9));
	birthday.previous_blocks[1] = Some(hash(8));
	bench.wallet.set_birthday(birthday);
	let best = bench.wallet.best_block();
	assert_eq!((best.height, best.block_hash), (10, hash(10)));
	assert_eq!(best.previous_blocks[..2], birthday.previous_blocks[..2]);
	let bench = bench.restart().await;
	bench.wallet.set_birthday(lightning::chain::BlockLocator::new(hash(99), 99));
	assert_eq!(bench.wallet.best_block().height, 10, "an old wallet keeps its place");
}

/// The coins of a funding that is double-spent are never used again, whoever wins.
#[tokio::test]
async fn r4_no_sale_is_funded_from_a_coin_that_is_fought_over() {
	let bench = Bench::new().await;
	bench.receive(&[100_000, 60_000]).await;
	let fund = async |sat| bench.wallet.fund(channel(), sats(sat), RATE, Amount::ZERO).await;
	let tx = fund(70_000).await.unwrap().tx;
	bench.broadcaster.broadcast_transactions(&[(&tx, TransactionType::Funding { channels: Vec::new() })]);
	let backend = Recorder::answering([Err(NotSent::Refused("txn-mempool-conflict".into()))]);
	bench.broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	// The mempool has the other one, not ours.
	let thief = spend(&[tx.input[0].previous_output], 90_000, ScriptBuf::new());
	bench.wallet.saw_unconfirmed(vec![thief.clone()]);
	bench.wallet.saw_mempool(|txid| *txid == thief.compute_txid());
	assert_eq!(bench.wallet.spendable(), sats(60_000));
	assert!(matches!(fund(70_000).await, Err(WalletError::Short { .. })));
	bench.mine(vec![thief]);
	assert_eq!(bench.wallet.spendable(), sats(60_000));
	assert_eq!(bench.broadcaster.troubles().len(), 1);
	assert!(fund(40_000).await.is_ok(), "other coins still fund sales");
}

#[tokio::test]
async fn r10_a_coin_is_split_once_and_all_but_the_fee_is_still_there() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let from: Vec<OutPoint> = bench.wallet.utxos().iter().map(|utxo| utxo.outpoint).collect();
	let tx = bench.wallet.rearrange(&from, 3, sats(11_000), RATE).unwrap();
	assert_eq!(tx.output.iter().filter(|output| output.value == sats(11_000)).count(), 3);
	let fee = sats(100_000) - tx.output.iter().map(|output| output.value).sum::<Amount>();
	let needed = RATE.fee_wu(tx.weight()).unwrap();
	assert!(fee >= needed && fee <= needed + sats(3), "{fee} for {needed}");
	assert_eq!(bench.wallet.total(), sats(100_000) - fee);
	let again = bench.wallet.rearrange(&from, 3, sats(11_000), RATE);
	assert!(matches!(again, Err(WalletError::Gone)), "{again:?}");
	bench.wallet.save().await;
	let bench = bench.restart().await;
	assert_eq!(bench.wallet.utxos().len(), 4, "the new coins, and not the old one");
	assert!(matches!(bench.wallet.rearrange(&from, 3, sats(11_000), RATE), Err(WalletError::Gone)));
}

fn channels(count: u8) -> Vec<(u128, ScriptBuf, Amount)> {
	let script = |number: u8| ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([number; 32]));
	(0..count).map(|number| (u128::from(number) + 70, script(number), sats(20_000 + u64::from(number)))).collect()
}

#[tokio::test]
async fn one_transaction_funds_several_channels_and_that_is_durable() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let alone = bench.wallet.fund_for(Some(1), channel(), sats(20_000), RATE, Amount::ZERO).await.unwrap();
	bench.wallet.release(alone.tx.compute_txid()).await;
	let made = bench.wallet.fund_together(&channels(3), RATE, Amount::ZERO).await.unwrap();
	let txid = made.tx.compute_txid();
	let each = RATE.fee_wu(bitcoin::Weight::from_wu(172)).unwrap();
	assert!(made.fee <= alone.fee + each * 2 + sats(1), "{} for three, {} for one", made.fee, alone.fee);
	assert_eq!(bench.wallet.spendable(), Amount::ZERO);

	let bench = bench.restart().await;
	let wallet = &bench.wallet;
	assert_eq!(wallet.shared_unsent(), [(txid, vec![70, 71, 72])]);
	assert!(wallet.is_shared(&txid) && wallet.is_withheld(&txid) && wallet.is_held(&txid));
	let mut fees = Amount::ZERO;
	for (id, script, amount) in channels(3) {
		let funding = wallet.funding_of(id).unwrap();
		let output = &made.tx.output[usize::try_from(funding.vout).unwrap()];
		assert_eq!((funding.txid, &output.script_pubkey, output.value), (txid, &script, amount));
		assert!(wallet.funds_channels(&txid).contains(&(id, funding.vout)));
		let (share, shared) = wallet.share_of(txid, id);
		assert!(shared);
		fees += sats(share.unwrap().0);
	}
	assert_eq!(fees, made.fee, "to the sat");
	assert!(wallet.broadcast_funding(&txid));
	assert_eq!(wallet.shared_unsent(), []);
	wallet.release(txid).await;
	assert!(wallet.is_out(&txid) && wallet.spendable() == Amount::ZERO, "what is out is never taken back");
}

#[tokio::test]
async fn a_shared_funding_that_is_dissolved_frees_its_coins_for_good() {
	let bench = Bench::new().await;
	bench.receive(&[100_000]).await;
	let made = bench.wallet.fund_together(&channels(2), RATE, Amount::ZERO).await.unwrap();
	let txid = made.tx.compute_txid();
	bench.wallet.release(txid).await;
	let bench = bench.restart().await;
	assert_eq!((bench.wallet.spendable(), bench.wallet.shared_unsent()), (sats(100_000), vec![]));
	assert!(!bench.wallet.broadcast_funding(&txid) && bench.wallet.funding_of(70).is_none());
	let short = bench.wallet.fund_together(&channels(6), RATE, Amount::ZERO).await;
	assert!(matches!(short, Err(WalletError::Short { .. })), "{short:?}");
	let kept = bench.wallet.fund_together(&channels(2), RATE, sats(70_000)).await;
	assert!(matches!(kept, Err(WalletError::Short { .. })), "{kept:?}");
}

/// One order is told, and is paid for; then the transaction is evicted and refused, and another order's deadline comes.
#[tokio::test]
async fn r6_a_shared_funding_that_an_order_was_told_of_is_never_withdrawn() {
	let refused = || Recorder::answering([Err(NotSent::Refused("mempool full".into()))]);
	for told in [false, true] {
		let bench = Bench::new().await;
		bench.receive(&[100_000]).await;
		let txid = bench.wallet.fund_together(&channels(2), RATE, Amount::ZERO).await.unwrap().tx.compute_txid();
		assert!(bench.wallet.broadcast_funding(&txid) && !bench.wallet.take(&txid), "nobody has answered");
		bench.broadcaster.flush(&Recorder::default(), Instant::now(), true).await.unwrap();
		assert!(bench.wallet.is_taken(&txid));
		assert!(!told || bench.wallet.take(&txid));
		let bench = bench.restart().await;
		bench.broadcaster.flush(&refused(), Instant::now(), true).await.unwrap();
		assert_eq!((bench.wallet.is_refused(&txid), bench.wallet.is_taken(&txid)), (!told, told));
		assert_eq!(bench.wallet.withdraw(txid).await, !told);
		assert_eq!(bench.wallet.is_out(&txid), told);
		assert_eq!(bench.wallet.spendable() == sats(100_000), !told, "its coins are free if nobody has paid for it");
	}
}

/// As earlier versions wrote them, and as this one does: read for ever, and those of one channel are written as before.
#[test]
fn funding_rows_stay_readable() {
	let tx = spend(&[OutPoint::null()], 40_000, channel());
	let hex = bitcoin::consensus::encode::serialize_hex(&tx);
	let id = "000000000000000000000000000000ff";
	let one = format!(r#"{{"tx":"{hex}","user_channel_id":"{id}","vout":1}}"#);
	let row = FundingRow::read(one.as_bytes()).unwrap();
	assert_eq!((&row.tx, &row.channels), (&tx, &vec![(255, 1)]));
	assert_eq!(String::from_utf8(row.bytes()).unwrap(), one);
	let nobodys = FundingRow::read(format!(r#"{{"tx":"{hex}","user_channel_id":null,"vout":0}}"#).as_bytes()).unwrap();
	assert_eq!(nobodys.channels, []);
	let two = format!(
		r#"{{"tx":"{hex}","user_channel_id":null,"vout":null,"channels":[{{"user_channel_id":"{id}","vout":1}},{{"user_channel_id":"{}","vout":0}}]}}"#,
		"0".repeat(32)
	);
	let row = FundingRow::read(two.as_bytes()).unwrap();
	assert_eq!(row.channels, [(255, 1), (0, 0)]);
	assert_eq!(String::from_utf8(row.bytes()).unwrap(), two);
}

/// BDK goes through all blocks that it has, for each transaction, whenever it is asked what counts.
#[tokio::test]
async fn after_a_start_old_blocks_are_forgotten_but_for_those_with_coins() {
	let bench = Bench::new().await;
	bench.receive(&[50_000]).await;
	for _ in 0..REMEMBERED + 10 {
		bench.mine(vec![]);
	}
	let before = bench.wallet.best_block();
	let bench = bench.restart().await;
	let (first, last) = (1, REMEMBERED + 11);
	let heights: Vec<u32> = bench.wallet.lock().checkpoints().map(|block| block.height()).collect();
	assert_eq!(heights.len() as u32, REMEMBERED + 2, "the newest, the coin's and the genesis block");
	assert!(heights.contains(&first) && heights.contains(&last) && !heights.contains(&2));
	assert_eq!(bench.wallet.best_block(), before);
	assert_eq!((bench.wallet.spendable(), bench.wallet.utxos()[0].confirmations), (sats(50_000), last));
	bench.mine(vec![]);
	bench.undo_block();
	bench.receive(&[20_000]).await;
	assert_eq!(bench.wallet.spendable(), sats(70_000), "and it follows a reorganisation");
}
