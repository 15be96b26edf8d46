//! Messages and services of Twinfeed's two gRPC packages, generated at build time. Nothing else lives here.

/// `twinfeed.admin.v1`: the public API, spoken by `wsctl` and by anyone else.
pub mod admin {
    tonic::include_proto!("twinfeed.admin.v1");
}

/// `twinfeed.internal.v1`: between the nodes of one cluster.
pub mod internal {
    tonic::include_proto!("twinfeed.internal.v1");
}

/// The encoded file descriptor set of both packages, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
