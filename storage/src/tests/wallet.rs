//! BDK's wallet, over restarts.

use super::{copy_files, open, place};
use crate::{COMPACT_ABOVE, WalletStore};
use bdk_wallet::bitcoin::absolute::LockTime;
use bdk_wallet::bitcoin::{Amount, Network, OutPoint, Transaction, TxIn, TxOut, transaction::Version};
use bdk_wallet::chain::Merge;
use bdk_wallet::{ChangeSet, KeychainKind, PersistedWallet, Wallet};

const EXTERNAL: &str = "tr(tprv8ZgxMBicQKsPdDArR4xSAECuVxeX1jwwSXR4ApKbkYgZiziDc4LdBy2WvJeGDfUSE4UT4hHhbgEwbdq8ajjUHiKDegkwrNU6V55CxcxonVN/86'/1'/0'/0/*)";
const INTERNAL: &str = "tr(tprv8ZgxMBicQKsPdDArR4xSAECuVxeX1jwwSXR4ApKbkYgZiziDc4LdBy2WvJeGDfUSE4UT4hHhbgEwbdq8ajjUHiKDegkwrNU6V55CxcxonVN/86'/1'/0'/1/*)";

async fn create(store: &mut WalletStore) -> PersistedWallet<WalletStore> {
	let params = Wallet::create(EXTERNAL, INTERNAL).network(Network::Regtest);
	params.create_wallet_async(store).await.unwrap()
}

async fn load(store: &mut WalletStore) -> Option<PersistedWallet<WalletStore>> {
	Wallet::load().check_network(Network::Regtest).load_wallet_async(store).await.unwrap()
}

/// A payment to this wallet.
fn payment(wallet: &Wallet, index: u32) -> Transaction {
	let script_pubkey = wallet.peek_address(KeychainKind::External, index).script_pubkey();
	Transaction {
		version: Version::TWO,
		lock_time: LockTime::from_height(index).unwrap(),
		input: vec![TxIn { previous_output: OutPoint { vout: index, ..Default::default() }, ..Default::default() }],
		output: vec![TxOut { value: Amount::from_sat(10_000), script_pubkey }],
	}
}

/// A change set with something of everything. The frozen file has it too: do not change it.
pub fn sample() -> ChangeSet {
	let mut wallet = Wallet::create(EXTERNAL, INTERNAL).network(Network::Regtest).create_wallet_no_persist().unwrap();
	let _ = wallet.reveal_next_address(KeychainKind::External);
	let paid = payment(&wallet, 0);
	wallet.lock_outpoint(OutPoint { txid: paid.compute_txid(), vout: 0 });
	wallet.apply_unconfirmed_txs([(paid, 1_700_000_000)]);
	wallet.take_staged().unwrap()
}

#[tokio::test]
async fn a_wallet_comes_back() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut persister = WalletStore(store.clone());
	assert!(load(&mut persister).await.is_none());
	let mut wallet = create(&mut persister).await;
	let address = wallet.reveal_next_address(KeychainKind::External);
	let paid = payment(&wallet, 0);
	wallet.apply_unconfirmed_txs([(paid, 1_700_000_000)]);
	assert!(wallet.persist_async(&mut persister).await.unwrap());

	// As a power cut leaves it: what `persist` returned for is there.
	let (_copy_dir, copy) = copy_files(&path);
	let mut wallet = load(&mut WalletStore(open(&copy))).await.unwrap();
	assert_eq!(wallet.balance().untrusted_pending, Amount::from_sat(10_000));
	assert_eq!(wallet.reveal_next_address(KeychainKind::External).index, address.index + 1);
	assert!(store.stats().bytes.wallet > 100);
}

#[tokio::test]
async fn append_takes_its_place_when_called() {
	let (_dir, path) = place();
	let store = open(&path);
	let persister = WalletStore(store.clone());
	drop(persister.append(&sample()));
	persister.append(&ChangeSet::default()).await;
	store.close().await;
	assert_eq!(WalletStore(open(&path)).load().await.unwrap(), sample());
}

/// Many change sets become one, and nothing changes by it, whether or not the compaction becomes durable.
#[tokio::test]
async fn many_change_sets_are_merged() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut persister = WalletStore(store.clone());
	let mut wallet = create(&mut persister).await;
	let mut all = persister.load().await.unwrap();
	for i in 0..COMPACT_ABOVE as u32 + 3 {
		let _ = wallet.reveal_next_address(KeychainKind::External);
		let paid = payment(&wallet, i);
		wallet.apply_unconfirmed_txs([(paid, 1_700_000_000 + u64::from(i))]);
		all.merge(wallet.staged().unwrap().clone());
		wallet.persist_async(&mut persister).await.unwrap();
	}
	let rows = |store: &crate::Store| {
		store.ask(|conn| Ok(conn.query_row("SELECT count(*) FROM wallet", [], |row| row.get::<_, i64>(0))?))
	};
	assert_eq!(rows(&store).await.unwrap(), COMPACT_ABOVE as i64 + 4);
	assert_eq!(persister.load().await.unwrap(), all);
	assert_eq!(rows(&store).await.unwrap(), 1);
	assert_eq!(persister.load().await.unwrap(), all);

	let _ = wallet.reveal_next_address(KeychainKind::External);
	all.merge(wallet.staged().unwrap().clone());
	wallet.persist_async(&mut persister).await.unwrap();
	assert_eq!(rows(&store).await.unwrap(), 2);
	drop((store, persister));
	assert_eq!(WalletStore(open(&path)).load().await.unwrap(), all);
}
