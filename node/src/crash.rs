//! Crash points. A debug build kills itself, as a power cut would, at the point that `INLET_TEST_CRASH_AT` names: the tests
//! try every state of a sale and of an order this way. A release build has none of it.
//!
//! A point is `sale.STATE.PHASE` or `order.STATE.PHASE`, for the first row of that state that this process writes; the
//! phases are `decided` (not yet written), `written` (durable, not yet acted on) and `done` (acted on).

#[cfg(debug_assertions)]
pub use debug::Points;
#[cfg(not(debug_assertions))]
pub use release::Points;

#[cfg(not(debug_assertions))]
mod release {
	use inlet_lsp::book::Write;

	/// Nothing.
	pub struct Points;

	impl Points {
		/// Nothing.
		pub fn of(_: &[Write]) -> Points {
			Points
		}

		/// Does nothing.
		pub fn reached(&self, _: &str) {}
	}
}

#[cfg(debug_assertions)]
mod debug {
	use inlet_lsp::book::Write;
	use rustix::process::{Signal, getpid, kill_process};
	use std::sync::OnceLock;

	/// The states that a step of the driver writes, if a crash is wanted at all.
	pub struct Points(Vec<String>);

	impl Points {
		/// Those of the rows that have a state.
		pub fn of(writes: &[Write]) -> Points {
			Points(if wanted().is_some() { writes.iter().filter_map(state).collect() } else { Vec::new() })
		}

		/// The step is in this phase.
		pub fn reached(&self, phase: &str) {
			let Some(wanted) = wanted() else { return };
			if self.0.iter().any(|state| format!("{state}.{phase}") == wanted) {
				eprintln!("crashing at {wanted}");
				// Nothing is flushed, closed or said.
				kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
			}
		}
	}

	fn wanted() -> Option<&'static str> {
		static WANTED: OnceLock<Option<String>> = OnceLock::new();
		WANTED.get_or_init(|| std::env::var("INLET_TEST_CRASH_AT").ok()).as_deref()
	}

	/// `sale.opening`.
	fn state(write: &Write) -> Option<String> {
		let (kind, state) = match write {
			Write::Sale(sale) => ("sale", serde_json::to_value(&sale.state)),
			Write::Order(order) => ("order", serde_json::to_value(&order.state)),
			Write::Client(_) | Write::Ledger(_) | Write::Books(_) => return None,
		};
		Some(format!("{kind}.{}", state.ok()?.get("is")?.as_str()?))
	}
}
