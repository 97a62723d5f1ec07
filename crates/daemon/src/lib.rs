//! The daemon: it hosts apps and answers the control API.
pub mod logs;
