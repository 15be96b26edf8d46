//! Frames and what a feed tells its writer: the writer's own words.

pub use twinfeed_writer::frame::{EndKind, FeedEvent, Frame, FrameKind};
