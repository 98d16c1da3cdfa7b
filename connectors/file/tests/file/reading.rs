//! Reading files that only grow.

use serde_json::json;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn lines_become_records_and_reading_goes_on_after_every_position() {
    let mut world = World::new(json!({"paths": ["/l/*.log"]}));
    world.batch = 4096;
    let lines: Vec<String> = (0..3000).map(|n| format!("line {n} {}", "x".repeat(n % 70))).collect();
    world.disk.append("/l/a.log", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    while world.lines().len() < lines.len() {
        assert!(world.step(crate::world::QUIET).await, "there is more to read");
        world.stop();
    }
    world.settle().await;
    assert_eq!(world.lines(), lines);
    world.disk.append("/l/a.log", "one\ntwo");
    world.settle().await;
    world.disk.append("/l/a.log", " and a half\n");
    world.settle().await;
    assert_eq!(world.lines()[3000..], ["one", "two and a half"]);
}
