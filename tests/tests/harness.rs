//! The harness itself: bitcoind and wallets, without Inlet.

use inlet_tests::{Bitcoind, Scratch};
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
