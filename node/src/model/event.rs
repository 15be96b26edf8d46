//! Events: the writer's own word, used by whoever has something to tell.

pub use twinfeed_writer::event::Event;
