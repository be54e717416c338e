//! What LDK wants to be told about, for backends that are asked by script: as many entries as its monitors watch.

use bitcoin::{OutPoint as Coin, Script, ScriptBuf, Txid};
use lightning::chain::transaction::OutPoint;
use lightning::chain::{Filter, WatchedOutput};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Everything that was ever registered, also passed on to `C`.
pub(super) struct Watched<C: Filter> {
	state: Mutex<Registered<C>>,
	wake: Notify,
}

struct Registered<C: Filter> {
	txs: HashSet<(Txid, ScriptBuf)>,
	outputs: HashMap<OutPoint, WatchedOutput>,
	news: bool,
	confirmer: Arc<C>,
}

/// What is looked for, each with a script that it is found by.
type Scripts<T> = Vec<(T, ScriptBuf)>;

/// For who asks [`Watched::all`].
pub(super) struct Unheard;

impl Filter for Unheard {
	fn register_tx(&self, _txid: &Txid, _script: &Script) {}
	fn register_output(&self, _output: WatchedOutput) {}
}

impl<C: Filter> Watched<C> {
	pub(super) fn new(confirmer: C) -> Watched<C> {
		let confirmer = Arc::new(confirmer);
		let state = Registered { txs: HashSet::new(), outputs: HashMap::new(), news: false, confirmer };
		Watched { state: Mutex::new(state), wake: Notify::new() }
	}

	/// Resolves when something was registered.
	pub(super) async fn registered(&self) {
		self.wake.notified().await;
	}

	pub(super) fn confirmer(&self) -> Arc<C> {
		Arc::clone(&self.lock().confirmer)
	}

	pub(super) fn take_news(&self) -> bool {
		std::mem::take(&mut self.lock().news)
	}

	/// Was something registered since [`Watched::take_news`]?
	pub(super) fn has_news(&self) -> bool {
		self.lock().news
	}

	/// All transactions, each with a script that it may pay to, and all outputs.
	pub(super) fn all(&self) -> (Scripts<Txid>, Scripts<Coin>) {
		let state = self.lock();
		let output = |output: &WatchedOutput| (output.outpoint.into_bitcoin_outpoint(), output.script_pubkey.clone());
		(state.txs.iter().cloned().collect(), state.outputs.values().map(output).collect())
	}

	pub(super) fn start_over(&self, confirmer: C) {
		let mut state = self.lock();
		for (txid, script) in &state.txs {
			confirmer.register_tx(txid, script);
		}
		for output in state.outputs.values() {
			confirmer.register_output(output.clone());
		}
		state.news = true;
		state.confirmer = Arc::new(confirmer);
	}

	fn lock(&self) -> MutexGuard<'_, Registered<C>> {
		self.state.lock().expect("no code panics while it holds this lock")
	}
}

impl<C: Filter> Filter for Watched<C> {
	fn register_tx(&self, txid: &Txid, script: &Script) {
		let mut state = self.lock();
		state.txs.insert((*txid, script.to_owned()));
		state.confirmer.register_tx(txid, script);
		state.news = true;
		self.wake.notify_one();
	}

	fn register_output(&self, output: WatchedOutput) {
		let mut state = self.lock();
		state.outputs.insert(output.outpoint, output.clone());
		state.confirmer.register_output(output);
		state.news = true;
		self.wake.notify_one();
	}
}
