//! What the broker says of its own health, over HTTP and gRPC.

use std::time::Duration;

/// Whether the broker may be used.
pub trait Health: Send + Sync + 'static {
    /// Why the broker is not ready to serve; empty if it is.
    fn unready_reasons(&self) -> Vec<String>;

    /// How long ago it last had contact with the metadata leader; `None` if it never had. For the
    /// leader itself, contact is that of a quorum of the voters.
    fn since_contact(&self) -> Option<Duration>;
}
