//! What is held while something else does not get done, and what begins anew under an old name.

use aqueduct_api::{Committed, TopicPartition, Topics};
use aqueduct_engine::TopicPlan;

use crate::world::World;
use crate::{GROUP, seconds, t};

#[test]
fn a_sync_that_hangs_delays_no_hold() {
    let mut world = World::new().by_record();
    world.plan.topics.insert("t".into(), TopicPlan::default());
    world.sink().topics = vec!["t*".into()];
    world.run(|process| async move {
        seconds(2).await;
        process.engine.pause("out").await.unwrap();
        process.store.faults.syncs_hang.on();
        // Where the partitions end that it had can not be found out.
        process.store.alter("t", 2, &Default::default()).await.unwrap();
        seconds(3).await;
        process.store.create("t-new", 1, &Default::default()).await.unwrap();
        seconds(3).await;
        for of in [t(1), TopicPartition::new("t-new", 0)] {
            assert_eq!(process.store.held(&of), [("sink out".into(), 0)], "{of}");
        }
    });
}

#[test]
fn a_topic_made_anew_is_delivered_from_its_beginning_where_the_log_has_forgotten_the_old_one() {
    for is_cut_off in [false, true] {
        let mut world = World::new();
        world.outside.put_many("a", 6);
        world.run(|process| async move {
            process.delivered().await;
            let before = process.store.committed_now(GROUP, &t(0)).unwrap();
            process.engine.pause("out").await.unwrap();
            process.store.faults.forgets.on();
            process.store.delete("t", true).await.unwrap();
            let new = process.store.create("t", 1, &Default::default()).await.unwrap();
            assert_eq!(process.store.committed_now(GROUP, &t(0)), None);
            if is_cut_off {
                // A run was killed after it had committed its start and before it had marked it.
                let id = serde_json::to_value(new.id).unwrap();
                let metadata = serde_json::json!({"v": 1, "topic": id, "ends": [], "run": 1}).to_string();
                process.store.set_committed(GROUP, &t(0), Some(Committed { offset: 0, metadata, ..before }));
            }
            seconds(3).await;
            process.outside.put_many("b", 3);
            process.engine.resume("out").await.unwrap();
            process.delivered().await;
            let names: Vec<_> = process.outside.objects().into_keys().map(|it| (it.run, it.start, it.end)).collect();
            assert!(names.contains(&(1, 0, 3)) && names.iter().all(|(run, ..)| *run < 2), "{names:?}");
        });
        // It is marked now.
        world.outside.put_many("b", 3);
        world.run(|process| async move { process.delivered().await });
    }
}
