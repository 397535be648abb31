//! Each rule of the log, broken on purpose, is noticed by one of the checks beside this file.

#![cfg(feature = "testing")]

use super::damage::{every_bit, misplaced_record};
use super::facts::each_life_has_its_own_salt;
use super::lives::runs;
use super::threads::syncs_do_not_overlap;
use crate::storage::{Sabotage, Sabotages};

/// Histories that may be tried until one shows the mistake.
const SEEDS: u64 = 400;

/// The check that must notice, and whether it needs calls that fail.
fn check(rule: Sabotage) -> Option<fn(Sabotages) -> Result<(), String>> {
    let crashes = |sabotages| runs(sabotages, 0..SEEDS, false).map(drop);
    let failures = |sabotages| runs(sabotages, 0..SEEDS, true).map(drop);
    Some(match rule {
        Sabotage::AcknowledgeBeforeSync
        | Sabotage::SkipSync
        | Sabotage::SkipDirectorySync
        | Sabotage::RecycleEarly
        | Sabotage::IgnorePayloadChecksum
        | Sabotage::RushWatermark
        | Sabotage::AppendToOldSegment
        | Sabotage::TrustTail => crashes,
        Sabotage::RetrySync => failures,
        Sabotage::OverlapSyncs => syncs_do_not_overlap,
        Sabotage::KeepSalt => each_life_has_its_own_salt,
        Sabotage::IgnoreLsn => misplaced_record,
        Sabotage::StickWatermark => every_bit,
        // Rules of the checkpoints.
        Sabotage::TableAheadOfLog | Sabotage::ManifestBeforeTable => return None,
    })
}

#[test]
fn every_mistake_is_noticed() {
    for rule in Sabotage::ALL {
        let Some(check) = check(rule) else { continue };
        let noticed = check(Sabotages::of(rule)).expect_err(&format!("{rule:?} goes unnoticed"));
        println!("{rule:?}: {noticed}");
    }
}
