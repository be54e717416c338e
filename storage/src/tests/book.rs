//! The book's rows.

use super::{copy_files, open, place, samples};
use crate::{LedgerTotal, MAX_CLIENTS_LOADED, MAX_LEDGER_LOADED, MAX_PAGE, MAX_RECENT_LOADED};
use inlet_lsp::book::{Entry, EntryKind, OrderState, Sale, SaleState, Write};

#[tokio::test]
async fn what_was_committed_is_loaded() {
	let (_dir, path) = place();
	let store = open(&path);
	store.commit(samples::all()).await;
	assert_eq!(store.load_rows().await.unwrap(), samples::all());
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(open(&copy).load_rows().await.unwrap(), samples::all());
	assert_eq!(store.sale("s_over").await.unwrap().map(Write::Sale), Some(samples::sale("s_over", 1)));
	assert_eq!(store.sale("o_paid").await.unwrap(), None);
	assert!(store.order("o_paid").await.unwrap().is_some());
	assert!(store.stats().bytes.book > 1000);
}

/// Writing a row twice is writing it once: a crash between commit and acknowledgement replays it.
#[tokio::test]
async fn twice_is_once() {
	let (_dir, path) = place();
	let store = open(&path);
	store.commit(samples::all()).await;
	let totals = store.ledger_totals().await.unwrap();
	store.commit(samples::all()).await;
	assert_eq!(store.load_rows().await.unwrap(), samples::all());
	assert_eq!(store.ledger_totals().await.unwrap(), totals);
}

#[tokio::test]
async fn nothing_to_write_resolves_at_once() {
	let (_dir, path) = place();
	let store = open(&path);
	let _gate = super::block_writer(&store);
	store.commit(vec![]).await;
}

/// However many are over: what is not over is loaded, and what has an open channel.
#[tokio::test]
async fn unfinished_rows_are_never_left_out() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut writes = vec![
		samples::sale_in("s_bought", 0, SaleState::Bought, false),
		samples::sale_in("s_owing", 1, SaleState::Owing, true),
		samples::sale_in("s_done_open", 2, SaleState::Done, true),
		samples::sale_in("s_failed_open", 2, SaleState::Failed { reason: String::new() }, true),
		samples::sale_with_part("s_done_part", 2),
		samples::order("o_refunding", 3, OrderState::Refunding { reason: String::new() }, true),
		samples::order("o_failed_refund", 3, OrderState::Failed { reason: String::new() }, false),
	];
	let must = writes.clone();
	let must_count = must.len();
	let recent = MAX_RECENT_LOADED as u64;
	writes.extend((0..recent + 50).map(|i| samples::sale(&format!("s_{i:06}"), 100 + i)));
	writes.extend((0..recent + 50).map(|i| samples::order(&format!("o_{i:06}"), 100 + i, OrderState::Completed, true)));
	store.commit(writes).await;
	let loaded = store.load_rows().await.unwrap();
	for row in must {
		assert!(loaded.contains(&row), "{row:?}");
	}
	assert_eq!(loaded.len(), must_count + 2 * MAX_RECENT_LOADED);
	assert!(loaded.contains(&samples::sale(&format!("s_{:06}", recent + 49), 100 + recent + 49)), "the newest is in");
	assert!(!loaded.contains(&samples::sale("s_000000", 100)), "the oldest is not");
	// It becomes over: then it is one of many.
	store.commit(vec![samples::sale("s_bought", 0)]).await;
	assert!(!store.load_rows().await.unwrap().contains(&samples::sale("s_bought", 0)));
}

/// However many clients came later: one that can be woken, or that something is held for, is loaded.
#[tokio::test]
async fn l5_14_clients_with_webhooks_are_never_left_out() {
	let (_dir, path) = place();
	let store = open(&path);
	let sleeper = samples::sleeper();
	let many = MAX_CLIENTS_LOADED + 1;
	store.commit(std::iter::once(sleeper.clone()).chain(samples::clients(many)).collect()).await;
	let loaded = store.load_rows().await.unwrap();
	assert!(loaded.contains(&sleeper));
	assert_eq!(loaded.len(), MAX_CLIENTS_LOADED + 1);
}

#[tokio::test]
async fn pages_go_back_to_the_first() {
	let (_dir, path) = place();
	let store = open(&path);
	// Three of them at the same moment: the id decides.
	let all: Vec<_> = (0..23).map(|i| samples::sale(&format!("s_{i:02}"), 100 + i / 3)).collect();
	store.commit(all.clone()).await;
	let mut got: Vec<Sale> = Vec::new();
	loop {
		let before = got.last().map(|sale| sale.id.clone());
		let page = store.sales_page(before.as_deref(), 5).await.unwrap();
		assert!(page.len() <= 5);
		if page.is_empty() {
			break;
		}
		got.extend(page);
	}
	let got: Vec<_> = got.into_iter().rev().map(Write::Sale).collect();
	assert_eq!(got, all);
	assert_eq!(store.sales_page(Some("s_unknown"), 5).await.unwrap(), vec![]);
	assert_eq!(store.orders_page(None, 5).await.unwrap(), vec![]);
	assert_eq!(store.sales_page(None, 0).await.unwrap(), vec![]);
}

#[tokio::test]
async fn the_ledger_in_pages_and_added_up() {
	let (_dir, path) = place();
	let store = open(&path);
	let count = MAX_LEDGER_LOADED as u64 + 10;
	store.commit((0..count).map(samples::entry).collect()).await;
	let newest = store.ledger(None, 3).await.unwrap();
	assert_eq!(newest.iter().map(|e| e.seq).collect::<Vec<_>>(), [count - 1, count - 2, count - 3]);
	let next = store.ledger(Some(count - 3), 2).await.unwrap();
	assert_eq!(next.iter().map(|e| e.seq).collect::<Vec<_>>(), [count - 4, count - 5]);
	assert_eq!(store.ledger(Some(0), 2).await.unwrap(), vec![]);
	assert_eq!(store.ledger(None, usize::MAX).await.unwrap().len(), MAX_PAGE);

	let half = count / 2;
	let earned = LedgerTotal { kind: EntryKind::JitFee, entries: half, amount_msat: 546_000 * half as i64 };
	let spent = LedgerTotal { kind: EntryKind::FundingCost, entries: half, amount_msat: -200_000 * half as i64 };
	assert_eq!(store.ledger_totals().await.unwrap(), [spent, earned]);

	let loaded = store.load_rows().await.unwrap();
	assert_eq!(loaded.len(), MAX_LEDGER_LOADED);
	assert_eq!(loaded.first(), Some(&samples::entry(10)));
	assert_eq!(loaded.last(), Some(&samples::entry(count - 1)));
}

/// The entries go, and what they added up to stays; done twice, it is done once.
#[tokio::test]
async fn entries_are_folded_and_their_totals_stay() {
	let (_dir, path) = place();
	let store = open(&path);
	store.commit((0..300).map(samples::entry).collect()).await;
	let totals = store.ledger_totals().await.unwrap();
	let seqs = |entries: Vec<Entry>| entries.iter().map(|entry| entry.seq).collect::<Vec<_>>();
	assert_eq!(seqs(store.oldest_entries(0, 3).await.unwrap()), [0, 1, 2]);
	for before in [120, 121, 121, 250] {
		store.commit(samples::fold(before)).await;
		assert_eq!(store.ledger_totals().await.unwrap(), totals);
		assert_eq!(seqs(store.oldest_entries(0, 2).await.unwrap()), [before, before + 1]);
		assert_eq!(store.ledger(Some(before), 9).await.unwrap(), vec![]);
		assert_eq!(store.ledger(None, 500).await.unwrap().len() as u64, 300 - before);
	}
	store.commit(vec![samples::entry(300)]).await;
	assert_eq!(store.ledger_totals().await.unwrap().iter().map(|total| total.entries).sum::<u64>(), 301);
	let mut rows = samples::fold(250);
	rows.truncate(1);
	rows.extend((250..=300).map(samples::entry));
	assert_eq!(store.load_rows().await.unwrap(), rows);
	// Opened again, or a copy of its files: the same.
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(open(&copy).load_rows().await.unwrap(), rows);
}

#[tokio::test]
async fn the_nodes_own_rows_in_pages() {
	let (_dir, path) = place();
	let store = open(&path);
	for key in ["a", "c", "b"] {
		drop(super::put(&store, key, key.as_bytes()));
	}
	let row = |key: &str| (key.to_owned(), key.as_bytes().to_vec());
	assert_eq!(store.node_rows("test", None, 2).await.unwrap(), [row("c"), row("b")]);
	assert_eq!(store.node_rows("test", Some("b"), 2).await.unwrap(), [row("a")]);
	assert_eq!(store.node_rows("other", None, 2).await.unwrap(), []);
}
