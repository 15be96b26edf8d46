//! Tools that need no cluster: a feed whose every message is known, and a verifier that reads the topic and counts. Used
//! by people trying Twinfeed out, by the demo, and by the chaos tests. Nothing of a node imports them.

pub mod demo;
pub mod feed;
pub mod own_message;
pub mod pattern;
pub mod verify;
