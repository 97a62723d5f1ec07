//! Replacing all workers by a new generation.

use crate::history::History;
use everup_core::cause::Cause;
use everup_core::reload::{Receipt, Rollout};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

/// What [`Cluster::reload`](crate::Cluster::reload) is to do.
///
/// ```
/// use everup::{Reload, Rollout};
///
/// let reload = Reload::new().rollout(Rollout::restart());
/// assert!(reload.env.is_none());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reload {
    /// What it is for.
    pub cause: Cause,
    /// Instead of [`Spec::rollout`](crate::Spec::rollout).
    pub rollout: Option<Rollout>,
    /// Instead of [`Spec::env`](crate::Spec::env), for the new generation and those after it.
    pub env: Option<Vec<(OsString, OsString)>>,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            cause: Cause::Reload,
            rollout: None,
            env: None,
        }
    }
}

impl Reload {
    /// A reload that an operator asks for, as the spec says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it is for.
    #[must_use]
    pub fn cause(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    /// How it goes, instead of [`Spec::rollout`](crate::Spec::rollout).
    #[must_use]
    pub fn rollout(mut self, rollout: Rollout) -> Self {
        self.rollout = Some(rollout);
        self
    }

    /// These variables instead of those of [`Spec::env`](crate::Spec::env), for the new generation and those after it.
    #[must_use]
    pub fn replace_env<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter();
        self.env = Some(
            variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        );
        self
    }
}

/// A reload under way.
#[derive(Debug, Clone)]
pub struct Reloading {
    generation: u32,
    queued: bool,
    history: Arc<History>,
}

impl Reloading {
    pub(super) fn new(generation: u32, queued: bool, history: Arc<History>) -> Self {
        Self {
            generation,
            queued,
            history,
        }
    }

    /// The new generation's number.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it had to wait for another one.
    #[must_use]
    pub fn queued(&self) -> bool {
        self.queued
    }

    /// Waits until it has replaced all that it will; old workers may still be draining.
    pub fn wait_rolled(&self) {
        self.history.await_rolled(self.generation);
    }

    /// Waits for its receipt, which is there when the old workers have ended (or when the next reload begins).
    /// `None` at the limit, or when the cluster has ended without.
    #[must_use]
    pub fn wait(&self, limit: Option<Duration>) -> Option<Receipt> {
        self.history.await_receipt(self.generation, limit)
    }
}
