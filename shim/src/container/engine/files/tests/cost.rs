//! What each step costs: `cargo test -p hull-shim --lib files::tests::cost -- --ignored --nocapture`.

use serde_json::json;

use super::world::{Outcome, isolated, words, world};
use crate::sys::clock;

const ROUNDS: usize = 300;

isolated! {
    #[ignore = "a measurement"]
    fn steps_in_microseconds() {
        let mut world = world();
        world.timed = true;
        world.config["root"]["readonly"] = json!(true);
        world.mount("/data", "bind", "/mnt/volume", &["rbind", "rprivate", "ro"]);
        std::fs::write("/mnt/volume/hosts", "").unwrap();
        world.mount("/etc/hosts", "bind", "/mnt/volume/hosts", &["rbind", "rprivate"]);
        let words = words(&world.plan().unwrap());
        let mut least = vec![i64::MAX; words.len()];
        let mut whole = i64::MAX;
        for _ in 0..ROUNDS {
            let before = clock::monotonic();
            let Outcome::Wrong(times) = world.run(|| Ok(())) else { panic!("a step failed") };
            whole = whole.min(clock::monotonic() - before);
            for (least, time) in least.iter_mut().zip(times.split(' ')) {
                *least = (*least).min(time.parse().unwrap());
            }
        }
        for (word, time) in words.iter().zip(&least) {
            println!("{:7.1}  {:.90}", *time as f64 / 1000.0, word);
        }
        println!("{:7.1}  all steps", least.iter().sum::<i64>() as f64 / 1000.0);
        println!("{:7.1}  with the maker's part, clone3, exit and reaping", whole as f64 / 1000.0);
    }
}
