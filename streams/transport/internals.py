"""The internals of Faust and aiokafka that the transport relies on, in one list.

Invariant: a missing one is found at start and not in the middle of a rebalance, and the error names
the versions that have it.
"""

import aiokafka
from aiokafka.consumer import fetcher, group_coordinator, subscription_state
from faust import App, topics
from faust.agents import Agent
from faust.tables import manager
from faust.transport import conductor
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage
from mode.threads import ServiceThread
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from schemas import internals

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}
"""The versions that the transport was written and tested for."""

RELIED_ON: internals.ReliedOn = (
    (App, "_new_transport _crash _stop_consumer _on_rebalance_when_stopped _create_directories"),
    (App, "_on_partitions_revoked _on_partitions_assigned flow_control"),
    (Agent, "_execute_actor"),
    (manager.TableManager, "_update_channels recovery"),
    (topics.Topic, "_compile_decode decode queue _clone_args"),
    (ThrowableQueue, "clear force_put_nowait put_nowait_enhanced"),
    (FlowControlEvent, "suspend resume clear is_active"),
    (ServiceThread, "Worker"),
    (conductor.Conductor, "_update_indices acks_enabled_for"),
    (ConsumerMessage, "generation_id acked __slots__"),
    (driver.Transport, "Consumer"),
    (driver, "DEFAULT_GENERATION_ID"),
    (driver.Consumer, "_new_consumer_thread _wait_next_records getmany on_buffer_full"),
    (driver.Consumer, "perform_seek seek_to_committed seek _filter_tps_with_pending_acks"),
    (driver.Consumer, "_new_offset _should_commit _commit_offsets _commit highwaters"),
    (driver.Consumer, "maybe_wait_for_commit_to_finish verify_all_partitions_active stop_flow"),
    (driver.Consumer, "on_partitions_revoked on_partitions_assigned _get_active_partitions"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer _commit _ensure_consumer call_thread"),
    (driver.AIOKafkaConsumerThread, "on_partitions_revoked seek_to_committed"),
    (aiokafka.AIOKafkaConsumer, "highwater last_stable_offset end_offsets"),
    (fetcher.Fetcher, "_create_fetch_waiter _notify seek_to request_offset_reset"),
    (fetcher.FetchResult, "check_assignment has_more getall _update_position"),
    (fetcher.PartitionRecords, "_consumer_record _unpack_records"),
    (fetcher.FetchError, "check_raise"),
    (group_coordinator.GroupCoordinator, "fetch_committed_offsets"),
    (subscription_state.SubscriptionState, "reassignment_in_progress fetch_context is_assigned"),
)
"""Attributes of instances are checked by the tests."""


def check_internals(relied_on: internals.ReliedOn = RELIED_ON) -> None:
    """Checks for everything that the transport relies on.

    Raises:
        InternalsMissing: naming what is missing, what is installed and what is needed.
    """
    internals.check_internals(relied_on, PINNED, "The transport")
