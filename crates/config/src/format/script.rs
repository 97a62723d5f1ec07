//! JavaScript and TypeScript: which engine, which kind of module, and what is taken out of TypeScript.

use super::{Parsed, node};
use crate::Options;
use crate::finding::{Finding, Source};

/// Evaluates a file.
pub(super) fn evaluate(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    if options.node {
        return node::evaluate(source, options);
    }
    embedded(source, options)
}

/// Evaluates the text as one expression.
pub(super) fn expression(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    #[cfg(feature = "js")]
    return super::quick::expression(source, options);
    #[cfg(not(feature = "js"))]
    {
        let _unused = options;
        Err(source.finding(None, "this build has no JavaScript"))
    }
}

#[cfg(feature = "js")]
fn embedded(source: &Source, options: &Options) -> Result<Parsed, Finding> {
    super::quick::evaluate(source, options)
}

#[cfg(not(feature = "js"))]
fn embedded(source: &Source, _options: &Options) -> Result<Parsed, Finding> {
    Err(source
        .finding(None, "this build has no JavaScript")
        .hint("--node evaluates the file with your own Node"))
}
