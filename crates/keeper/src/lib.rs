//! The keeper: it keeps descriptors and state while daemons come and go.
