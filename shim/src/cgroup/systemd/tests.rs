//! Units, properties, annotations and messages, and a real message bus.
