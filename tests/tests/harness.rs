//! The harness itself: bitcoind and wallets, without Inlet.

use inlet_tests::world::SOON;
use inlet_tests::{Bitcoind, Scratch, Wallet, WalletOptions, scenario};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bitcoind_mines_sends_reorganises_and_restarts_with_its_data() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	eprintln!("{} at {}", bitcoind.describe(), bitcoind.url());
	assert_eq!(bitcoind.height().await.unwrap(), 110);

	let address = bitcoind.address().await.unwrap();
	let txid = bitcoind.send(&address, 123_456).await.unwrap();
	bitcoind.wait_for_tx(&txid, Duration::from_secs(5)).await.unwrap();
	bitcoind.mine(1).await.unwrap();
	assert!(bitcoind.mempool().await.unwrap().is_empty());

	let tip = bitcoind.tip().await.unwrap();
	bitcoind.reorg(1, false).await.unwrap();
	assert_ne!(bitcoind.tip().await.unwrap(), tip);
	assert_eq!(bitcoind.height().await.unwrap(), 112);
	assert_eq!(bitcoind.mempool().await.unwrap(), [txid]);

	assert!(bitcoind.cookie_file().is_file());
	bitcoind.stop().await.unwrap();
	assert!(bitcoind.height().await.is_err());
	bitcoind.resume().await.unwrap();
	assert_eq!(bitcoind.height().await.unwrap(), 112);
	bitcoind.mine(1).await.unwrap();
	assert!(bitcoind.mempool().await.unwrap().is_empty());
}

#[test]
fn wallets_open_a_channel_pay_each_other_and_survive_a_restart() {
	scenario(async |scratch| {
		let bitcoind = Bitcoind::start(scratch).await?;
		let chain = vec!["--bitcoind".to_owned(), bitcoind.url()];
		let options = |name: &str| WalletOptions { name: name.to_owned(), chain: chain.clone(), ..Default::default() };
		let alice = Wallet::start(scratch, options("alice")).await?;
		let bob = Wallet::start(scratch, options("bob")).await?;
		bitcoind.fund(&[(alice.address().await?, 1_000_000), (bob.address().await?, 100_000)]).await?;
		alice.sync().await?;
		bob.sync().await?;
		assert_eq!(alice.onchain_sat().await?, 1_000_000);

		alice.open_channel(&bob.uri(), 500_000, true).await?;
		bitcoind.wait_for_mempool(1, SOON).await?;
		bitcoind.mine(6).await?;
		alice.sync().await?;
		bob.sync().await?;
		alice.usable_channels(1, SOON).await?;

		let invoice = bob.invoice(Some(50_000_000)).await?;
		let id = alice.pay(&invoice, None).await?;
		assert_eq!(bob.received(&invoice, SOON).await?.what["amount_msat"], 50_000_000);
		assert_eq!(alice.paid(&id, SOON).await?.what["payment_hash"], invoice.hash.as_str());
		assert_eq!(bob.lightning_sat().await?, 50_000);

		// Nobody has that much, so it fails at once; and a wallet that is gone says so.
		let too_much = bob.invoice(Some(900_000_000)).await?;
		assert!(alice.pay(&too_much, None).await.is_err());
		bob.stop().await?;
		assert!(bob.invoice(None).await.is_err());
		assert_eq!(bob.resume().await?, bob.node_id());
		alice.connect(&bob.uri()).await?;
		bob.usable_channels(1, SOON).await?;
		let back = alice.invoice(Some(7_000_000)).await?;
		let id = bob.pay(&back, None).await?;
		bob.paid(&id, SOON).await?;
		alice.received(&back, SOON).await?;
		assert_eq!(bob.lightning_sat().await?, 43_000);
		Ok(())
	});
}
