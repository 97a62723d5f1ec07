//! An app as it is written down.

use crate::app::{App, Kept, Variables};
use crate::record::Place;
use everup_api::AppSpec;
use everup_api::v1::LastExit;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// `state.json`, `saved.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// The kernel's number of this boot.
    pub(crate) boot_id: String,
    pub(crate) apps: Vec<Stored>,
    /// Apps that `kill` has put away: for `resurrect`, and for the next boot.
    pub(crate) parked: Vec<Stored>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    pub(crate) spec: AppSpec,
    pub(crate) wanted: bool,
    pub(crate) origin: Option<PathBuf>,
    pub(crate) created_at: u64,
    pub(crate) places: BTreeMap<u32, StoredPlace>,
    /// What ran when this was written: pid and start time of each worker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) processes: Vec<(u32, u64)>,
    /// Only in `saved.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inherited: Option<Arc<Variables>>,
}

/// A place, and what is counted of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredPlace {
    pub(crate) id: u32,
    pub(crate) restarts: u64,
    pub(crate) unstable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_exit: Option<LastExit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_version: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) axm: BTreeMap<String, Value>,
}

impl Stored {
    /// For the disk.
    pub(crate) fn of(kept: &Kept) -> Self {
        let lives = kept.record.lives.values();
        let places = kept.record.places.iter();
        Self {
            spec: kept.spec.clone(),
            wanted: kept.wanted,
            origin: kept.origin.clone(),
            created_at: kept.created_at,
            places: places
                .map(|(slot, place)| (*slot, StoredPlace::of(place)))
                .collect(),
            processes: lives.filter_map(|life| Some((life.pid, life.born?))).collect(),
            inherited: None,
        }
    }

    /// For `saved.json`.
    pub(crate) fn with_variables(kept: &Kept) -> Self {
        Self {
            inherited: Some(Arc::clone(&kept.inherited)),
            processes: Vec::new(),
            ..Self::of(kept)
        }
    }

    /// As an app that does not run (yet).
    pub(crate) fn revive(self, inherited: Arc<Variables>) -> Arc<App> {
        let app = App::new(self.spec.name.clone(), self.spec, inherited);
        {
            let mut kept = app.kept();
            kept.wanted = self.wanted;
            kept.origin = self.origin;
            kept.created_at = self.created_at;
            kept.target = u32::try_from(self.places.len()).unwrap_or_default();
            let places = self.places.into_iter();
            kept.record.places = places.map(|(slot, place)| (slot, place.revive())).collect();
        }
        app
    }
}

impl StoredPlace {
    fn of(place: &Place) -> Self {
        Self {
            id: place.id,
            restarts: place.restarts,
            unstable: place.unstable,
            last_exit: place.last_exit.clone(),
            node_version: place.node_version.clone(),
            axm: place.axm.clone(),
        }
    }

    fn revive(self) -> Place {
        Place {
            id: self.id,
            restarts: self.restarts,
            unstable: self.unstable,
            last_exit: self.last_exit,
            node_version: self.node_version,
            axm: self.axm,
        }
    }
}
