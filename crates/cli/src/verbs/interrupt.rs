//! Ctrl-C while the daemon works for us: we hang up, and it goes on. Whatever it was asked for has a defined end.

use crate::exit::Exit;
use everup::signals::Signals;
use everup_api::v1::Client;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SIGINT: i32 = 2;

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    came: Arc<AtomicBool>,
    line: Arc<Mutex<Option<UnixStream>>>,
}

impl Interrupt {
    /// Takes the signal from its default action. If that cannot be, it ends us at once, as always.
    /// pm2 knows one code for all that is not well.
    pub(crate) fn watch(pm2: bool) -> Self {
        let exit = if pm2 { Exit::Unexpected } else { Exit::Interrupted };
        let interrupt = Self::default();
        if let Ok(signals) = Signals::block(&[SIGINT]) {
            let told = interrupt.clone();
            let wait = move || {
                while signals.wait().is_ok() {
                    told.came.store(true, Ordering::SeqCst);
                    match &*told.line.lock().unwrap_or_else(PoisonError::into_inner) {
                        Some(line) => {
                            line.shutdown(Shutdown::Both).ok();
                        }
                        None => end(exit),
                    }
                }
            };
            std::thread::Builder::new()
                .name("interrupt".into())
                .spawn(wait)
                .ok();
        }
        interrupt
    }

    /// From now on it hangs up this client.
    pub(crate) fn guard(&self, client: &Client) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = client.line();
    }

    /// From now on it ends us, as it does by default.
    pub(crate) fn release(&self) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }
}

#[expect(
    clippy::exit,
    reason = "nothing is under way, and the signal's default action is this"
)]
fn end(exit: Exit) {
    std::process::exit(i32::from(exit.code()));
}
