//! The files of the workers' output: emptied, and opened anew.

use super::small::each;
use super::{Host, with_missing};
use crate::daemon::{Daemon, Target, blocking};
use everup_api::v1::{Done, On};
use everup_api::{Error, ErrorCode};
use std::path::PathBuf;
use std::sync::Arc;

impl Daemon {
    /// Empties the files of each instance.
    pub(crate) async fn flush(self: Host, request: On) -> Result<Done, Error> {
        let (targets, missing) = self.targets_found(&request.targets)?;
        let files: Vec<PathBuf> = targets.iter().flat_map(|target| self.files(target)).collect();
        let host = Arc::clone(&self);
        let failed = blocking(move || host.outputs.logs().flush(files)).await?;
        Ok(with_missing(answer(&targets, failed, "flushed"), missing))
    }

    /// Opens the files of each app by their names again.
    pub(crate) async fn reopen(self: Host, request: On) -> Result<Done, Error> {
        let (targets, missing) = match request.targets.is_empty() {
            true => self.targets_found(&["all".into()])?,
            false => self.targets_found(&request.targets)?,
        };
        let names: Vec<String> = targets.iter().map(|target| target.app.name.clone()).collect();
        let host = Arc::clone(&self);
        let failed = blocking(move || {
            let results = names.iter().map(|name| host.outputs.logs().reopen(Some(name)));
            let failed: Vec<String> = results.filter_map(Result::err).flatten().collect();
            if failed.is_empty() { Ok(()) } else { Err(failed) }
        })
        .await?;
        Ok(with_missing(answer(&targets, failed, "reopened"), missing))
    }

    fn files(&self, target: &Target) -> Vec<PathBuf> {
        let kept = target.app.kept();
        let ids = target.id.map_or_else(|| kept.record.ids(), |id| vec![id]);
        let paths = ids.into_iter().map(|id| self.outputs.paths(&kept.spec, id));
        paths
            .flat_map(|paths| [paths.out, paths.err, paths.both])
            .flatten()
            .collect()
    }
}

/// A file is not one app's alone: what failed is told with each.
fn answer(targets: &[Target], result: Result<(), Vec<String>>, done: &'static str) -> Done {
    let failed = result.err().map(|failed| failed.join("; "));
    each(targets, |_| match &failed {
        None => Ok(done),
        Some(failed) => Err(Error::new(ErrorCode::Internal, failed.clone())),
    })
}
