//! Why a command was not carried out: what it exits with, and what to do.

use crate::api::Problem;
use crate::cli::ParseUnitError;
use crate::control::Refusal;
use std::io;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
	/// The node refused, or tried and failed. What to do is in it.
	#[error("{}", .0.detail)]
	Refused(Box<Problem>),
	/// The command cannot mean anything: it has to be written otherwise.
	#[error("{detail}")]
	Usage {
		/// What is wrong.
		detail: String,
		/// What to do.
		hint: String,
	},
	/// Nobody is there to answer: start the node, or look elsewhere.
	#[error("{detail}")]
	NotReachable {
		/// Who is not there.
		detail: String,
		/// What to do.
		hint: String,
	},
	/// Our own output cannot be written.
	#[error("cannot write the answer: {0}")]
	Output(#[from] io::Error),
}

impl Failure {
	/// Refused here, before anything was asked of the node.
	pub fn refused(code: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Failure {
		Failure::Refused(Box::new(Refusal::invalid(code, detail, hint).into()))
	}

	/// What the process exits with.
	pub fn exit_code(&self) -> u8 {
		match self {
			Failure::Refused(_) | Failure::Output(_) => 1,
			Failure::Usage { .. } => 2,
			Failure::NotReachable { .. } => 3,
		}
	}

	/// The same in the API's form; what never reached the API has status 0.
	pub fn problem(&self) -> Problem {
		let (code, hint) = match self {
			Failure::Refused(problem) => return (**problem).clone(),
			Failure::Usage { hint, .. } => ("usage", hint.clone()),
			Failure::NotReachable { hint, .. } => ("not_reachable", hint.clone()),
			Failure::Output(_) => ("output", "look at where the output goes: is the disk full?".to_owned()),
		};
		Problem {
			kind: format!("urn:inlet:{code}"),
			title: "Not done".to_owned(),
			status: 0,
			code: code.to_owned(),
			detail: self.to_string(),
			hint,
		}
	}
}

impl From<ParseUnitError> for Failure {
	fn from(error: ParseUnitError) -> Failure {
		Failure::Usage { detail: error.to_string(), hint: "inlet COMMAND --help shows what is expected".to_owned() }
	}
}
