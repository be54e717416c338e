//! A child process that writes its output to a log file and never outlives its handle.

use crate::scratch::eventually;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A child process; killed (SIGKILL) and reaped when dropped.
#[derive(Debug)]
pub struct Process {
	name: String,
	log: PathBuf,
	child: Mutex<Child>,
}

impl Process {
	/// Starts `command`; its standard output and error go to the end of `log`.
	///
	/// # Errors
	/// It cannot be started.
	pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
		let file = Self::open_log(log)?;
		command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
		Self::spawn(name, command, log)
	}

	/// The same, but with pipes to its standard input and from its standard output.
	///
	/// # Errors
	/// It cannot be started.
	pub fn start_piped(name: &str, command: &mut Command, log: &Path) -> Result<(Process, ChildStdin, ChildStdout)> {
		command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Self::open_log(log)?);
		let process = Self::spawn(name, command, log)?;
		let mut child = process.child();
		let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
		drop(child);
		Ok((process, stdin.context("no standard input")?, stdout.context("no standard output")?))
	}

	fn open_log(log: &Path) -> Result<File> {
		OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("cannot open {}", log.display()))
	}

	fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
		let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
		Ok(Process { name: name.to_owned(), log: log.to_owned(), child: Mutex::new(child) })
	}

	fn child(&self) -> MutexGuard<'_, Child> {
		self.child.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Its number.
	pub fn pid(&self) -> u32 {
		self.child().id()
	}

	/// How it ended, or `None` while it runs.
	///
	/// # Errors
	/// The system does not tell.
	pub fn ended(&self) -> Result<Option<ExitStatus>> {
		Ok(self.child().try_wait()?)
	}

	/// Fails if it has ended, with the end of its log.
	///
	/// # Errors
	/// It has ended.
	pub fn check_running(&self) -> Result<()> {
		if let Some(status) = self.ended()? {
			bail!("{} ended ({status}). Its last words:\n{}", self.name, self.last_words());
		}
		Ok(())
	}

	/// The last lines of its log.
	pub fn last_words(&self) -> String {
		let text = self.log_text();
		let lines: Vec<&str> = text.lines().collect();
		lines[lines.len().saturating_sub(20)..].join("\n")
	}

	/// Its log so far.
	pub fn log_text(&self) -> String {
		String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
	}

	/// Sends SIGTERM.
	///
	/// # Errors
	/// It has ended already.
	pub fn terminate(&self) -> Result<()> {
		self.signal(Signal::TERM)
	}

	/// Sends a signal.
	///
	/// # Errors
	/// It has ended already.
	pub fn signal(&self, signal: Signal) -> Result<()> {
		// `ended` reaps it, so that the number cannot belong to another process by now.
		if let Some(status) = self.ended()? {
			bail!("{} has ended already ({status})", self.name);
		}
		Ok(kill_process(Pid::from_child(&self.child()), signal)?)
	}

	/// Kills it as a power cut would (SIGKILL) and waits until it is gone.
	///
	/// # Errors
	/// The system refuses.
	pub fn kill(&self) -> Result<()> {
		let mut child = self.child();
		child.kill()?;
		child.wait()?;
		Ok(())
	}

	/// Waits until it ends by itself.
	///
	/// # Errors
	/// It still runs after `limit`.
	pub async fn wait(&self, limit: Duration) -> Result<ExitStatus> {
		eventually(limit, &format!("{} ends", self.name), async || self.ended()).await
	}
}

impl Drop for Process {
	fn drop(&mut self) {
		// Both fail only if it is gone already, which is what is wanted.
		let mut child = self.child();
		let _ = child.kill();
		let _ = child.wait();
	}
}
