//! What we write to and whom we ask.

use super::failure::Failure;
use super::render::{Style, Zone};
use crate::api::Problem;
use crate::control::Time;
use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;

/// Asks a question; true for yes.
pub(super) type Ask<'a> = &'a mut dyn FnMut(&str) -> io::Result<bool>;

/// A terminal, or what stands for one.
pub(super) struct Ui<'a> {
	/// Where answers go.
	pub out: &'a mut dyn Write,
	/// Where complaints go.
	pub err: &'a mut dyn Write,
	/// Whom to ask; `None` if nobody is there.
	pub ask: Option<Ask<'a>>,
	/// How it should look.
	pub style: Style,
}

impl Ui<'_> {
	/// Prints an answer; a missing end of line is added.
	pub fn say(&mut self, text: &str) -> Result<(), Failure> {
		self.out.write_all(text.as_bytes())?;
		if !text.ends_with('\n') {
			self.out.write_all(b"\n")?;
		}
		Ok(self.out.flush()?)
	}

	/// Asks before something that cannot be undone, unless `yes`.
	pub fn confirm(&mut self, yes: bool, question: &str) -> Result<(), Failure> {
		if yes {
			return Ok(());
		}
		let Some(ask) = &mut self.ask else {
			let detail = "this cannot be undone, and nobody is here to be asked";
			return Err(Failure::refused("not_confirmed", detail, "add --yes if you are sure"));
		};
		match ask(question)? {
			true => Ok(()),
			false => {
				Err(Failure::refused("not_confirmed", "nothing was done", "answer y, or add --yes, if you are sure"))
			}
		}
	}

	/// Says why nothing came of it, and what to do.
	pub fn complain(&mut self, failure: &Failure, json: bool) {
		write_complaint(self.err, &failure.problem(), json);
	}
}

/// Says on standard error why nothing came of a command, and what to do.
pub fn complain(problem: &Problem, json: bool) {
	write_complaint(&mut io::stderr(), problem, json);
}

fn write_complaint(err: &mut dyn Write, problem: &Problem, json: bool) {
	let clean = super::render::clean;
	let text = match json {
		true => serde_json::to_string(problem).expect("a struct of strings is JSON"),
		false => format!("inlet: {}\n  → {}", clean(&problem.detail), clean(&problem.hint)),
	};
	// If even this cannot be written there is nobody left to be told.
	let _ = writeln!(err, "{text}");
}

/// Runs `work` with the process' own terminal.
pub(super) fn with_terminal<T>(work: impl FnOnce(&mut Ui<'_>) -> T) -> T {
	let (mut out, mut err) = (io::stdout(), io::stderr());
	let style = Style {
		zone: Zone::Local,
		color: out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
		now: Time::from(SystemTime::now()),
	};
	let mut ask = |question: &str| {
		let answer = prompt(&format!("{question} [y/N] "))?;
		Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
	};
	let ask: Option<Ask<'_>> = if somebody_is_here() { Some(&mut ask) } else { None };
	work(&mut Ui { out: &mut out, err: &mut err, ask, style })
}

fn somebody_is_here() -> bool {
	io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn prompt(question: &str) -> io::Result<String> {
	let mut err = io::stderr();
	err.write_all(question.as_bytes())?;
	err.flush()?;
	let mut answer = String::new();
	io::stdin().read_line(&mut answer)?;
	Ok(answer)
}
