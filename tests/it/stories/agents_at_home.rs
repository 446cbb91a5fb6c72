//! Claude Code, Codex, Hermes and nanobot in a home, each looked at by its pack.
