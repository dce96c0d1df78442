//! Names of request and response metadata: what travels beside the messages.

/// On a request: the cluster that the call is meant for, a UUID as text. A broker of another one
/// refuses the call with FAILED_PRECONDITION. Absent, nothing is checked.
pub const CLUSTER_ID: &str = "tidelog-cluster-id";

/// On a refusal: the broker belongs to another cluster than the call is meant for.
pub const OTHER_CLUSTER: &str = "tidelog-other-cluster";

/// On a refusal: the listener is not one for clients. Its message says where these are.
pub const NOT_FOR_CLIENTS: &str = "tidelog-not-for-clients";
