// Package storage drives the suites that Kubernetes exports for its storage, on a datastore of ours.
//
// Each suite is a subtest with the name of its function; what it demands is Kubernetes' business.
package storage

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage/etcd3"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	suites "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
)

// suite is one exported suite, what it needs, and how it is called.
type suite struct {
	name string
	need need
	run  func(*testing.T, *rig)
	// gates that the suite is about.
	gates gates
}

type gates map[featuregate.Feature]bool

var (
	unsafeDelete = gates{features.AllowUnsafeMalformedObjectDeletion: true}
	unsafeOff    = gates{features.AllowUnsafeMalformedObjectDeletion: false}
	snapshots    = gates{features.ListFromCacheSnapshot: true}
	noSnapshots  = gates{features.ListFromCacheSnapshot: false}
)

func (g gates) set(t *testing.T) {
	for name, on := range g {
		featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate,
			name, on)
	}
	if _, about := g[features.EtcdRangeStream]; !about {
		return
	}
	// What was learnt of an earlier server must not decide.
	known := etcdfeature.DefaultFeatureSupportChecker
	etcdfeature.DefaultFeatureSupportChecker = etcdfeature.NewDefaultFeatureSupportChecker()
	t.Cleanup(func() { etcdfeature.DefaultFeatureSupportChecker = known })
}

// TestStore runs them on the storage itself.
func TestStore(t *testing.T) {
	for _, each := range append(objects, append(lists(), watches()...)...) {
		t.Run(each.name, func(t *testing.T) {
			each.gates.set(t)
			each.run(t, newRig(t, each.need, ""))
		})
	}
}

var pods = schema.GroupResource{Resource: "pods"}

var objects = []suite{
	{name: "Create", run: func(t *testing.T, r *rig) { suites.RunTestCreate(r.ctx, t, r, r.stored) }},
	{name: "CreateWithTTL", run: func(t *testing.T, r *rig) { suites.RunTestCreateWithTTL(r.ctx, t, r) }},
	{name: "CreateWithKeyExist", run: func(t *testing.T, r *rig) { suites.RunTestCreateWithKeyExist(r.ctx, t, r) }},
	{name: "Get", run: func(t *testing.T, r *rig) { suites.RunTestGet(r.ctx, t, r) }},
	{name: "UnconditionalDelete", run: func(t *testing.T, r *rig) { suites.RunTestUnconditionalDelete(r.ctx, t, r) }},
	{name: "ConditionalDelete", run: func(t *testing.T, r *rig) { suites.RunTestConditionalDelete(r.ctx, t, r) }},
	{name: "DeleteWithSuggestion", run: func(t *testing.T, r *rig) { suites.RunTestDeleteWithSuggestion(r.ctx, t, r) }},
	{name: "DeleteWithSuggestionAndConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionAndConflict(r.ctx, t, r)
	}},
	{name: "DeleteWithConflict", run: func(t *testing.T, r *rig) { suites.RunTestDeleteWithConflict(r.ctx, t, r) }},
	{name: "DeleteWithSuggestionOfDeletedObject", run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionOfDeletedObject(r.ctx, t, r)
	}},
	{name: "ValidateDeletionWithSuggestion", run: func(t *testing.T, r *rig) {
		suites.RunTestValidateDeletionWithSuggestion(r.ctx, t, r)
	}},
	{name: "ValidateDeletionWithOnlySuggestionValid", run: func(t *testing.T, r *rig) {
		suites.RunTestValidateDeletionWithOnlySuggestionValid(r.ctx, t, r)
	}},
	{name: "PreconditionalDeleteWithSuggestion", run: func(t *testing.T, r *rig) {
		suites.RunTestPreconditionalDeleteWithSuggestion(r.ctx, t, r)
	}},
	{name: "PreconditionalDeleteWithOnlySuggestionPass", run: func(t *testing.T, r *rig) {
		suites.RunTestPreconditionalDeleteWithOnlySuggestionPass(r.ctx, t, r)
	}},
	{name: "DeleteWithConflictAndMissingExpectedTransformOrDecodeError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(r.ctx, t, r, r.codec.broken.Store)
	}},
	{name: "DeleteExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteExpectedTransformOrDecodeError(r.ctx, t, r, r.transformer.broken.Store)
	}},
	{name: "DeleteExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteExpectedTransformOrDecodeError(r.ctx, t, r, r.codec.broken.Store)
	}},
	{name: "DeleteWithSuggestionAndMissingExpectedTransformOrDecodeError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(r.ctx, t, r)
	}},
	{name: "GuaranteedUpdate", run: func(t *testing.T, r *rig) { suites.RunTestGuaranteedUpdate(r.ctx, t, r, r.stored) }},
	{name: "GuaranteedUpdateWithTTL", run: func(t *testing.T, r *rig) { suites.RunTestGuaranteedUpdateWithTTL(r.ctx, t, r) }},
	{name: "GuaranteedUpdateChecksStoredData", run: func(t *testing.T, r *rig) {
		suites.RunTestGuaranteedUpdateChecksStoredData(r.ctx, t, r)
	}},
	{name: "GuaranteedUpdateWithConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestGuaranteedUpdateWithConflict(r.ctx, t, r)
	}},
	{name: "GuaranteedUpdateWithSuggestionAndConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestGuaranteedUpdateWithSuggestionAndConflict(r.ctx, t, r)
	}},
	{name: "TransformationFailure", run: func(t *testing.T, r *rig) { suites.RunTestTransformationFailure(r.ctx, t, r) }},
	{name: "KeySchema", run: func(t *testing.T, r *rig) { suites.RunTestKeySchema(r.ctx, t, r) }},
	{name: "CompactRevision", need: fresh, gates: snapshots, run: func(t *testing.T, r *rig) {
		suites.RunTestCompactRevision(r.ctx, t, r, r.increase, r.compact)
	}},
	{name: "Stats", run: func(t *testing.T, r *rig) {
		suites.RunTestStats(r.ctx, t, r, r.codec, r.transformer, false)
	}},
	{name: "StatsOfSizes", run: func(t *testing.T, r *rig) {
		if err := r.EnableResourceSizeEstimation(r.keys); err != nil {
			t.Fatal(err)
		}
		suites.RunTestStats(r.ctx, t, r, r.codec, r.transformer, true)
	}},
}

// byStream names a suite's two forms: with etcd's RangeStream, and in pages.
func byStream(name string, stream bool) (string, gates) {
	return fmt.Sprintf("%s/RangeStream=%t", name, stream), gates{features.EtcdRangeStream: stream}
}

func lists() []suite {
	all := []suite{
		{name: "ListPaging", run: func(t *testing.T, r *rig) { suites.RunTestListPaging(r.ctx, t, r) }},
		{name: "NamespaceScopedList", run: func(t *testing.T, r *rig) { suites.RunTestNamespaceScopedList(r.ctx, t, r) }},
		{name: "GetListNonRecursive", need: fresh, run: func(t *testing.T, r *rig) {
			suites.RunTestGetListNonRecursive(r.ctx, t, r.increase, r)
		}},
		{name: "GetListRecursivePrefix", run: func(t *testing.T, r *rig) { suites.RunTestGetListRecursivePrefix(r.ctx, t, r) }},
		{name: "GetListWithErrorAggregation", need: fresh, gates: unsafeDelete, run: func(t *testing.T, r *rig) {
			r.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(r.Interface, pods)
			suites.RunTestGetListWithErrorAggregation(r.ctx, t, r, corrupt())
		}},
		{name: "GetListWithoutErrorAggregation", need: fresh, gates: unsafeOff, run: func(t *testing.T, r *rig) {
			suites.RunTestGetListWithoutErrorAggregation(r.ctx, t, r, corrupt())
		}},
		{name: "ListContinuation", run: func(t *testing.T, r *rig) { suites.RunTestListContinuation(r.ctx, t, r, r.calls) }},
		{name: "ListPaginationRareObject", gates: noSnapshots, run: func(t *testing.T, r *rig) {
			suites.RunTestListPaginationRareObject(r.ctx, t, r, r.calls)
		}},
		{name: "ListContinuationWithFilter", run: func(t *testing.T, r *rig) {
			suites.RunTestListContinuationWithFilter(r.ctx, t, r, r.calls)
		}},
		{name: "ListInconsistentContinuation", need: fresh, run: func(t *testing.T, r *rig) {
			suites.RunTestListInconsistentContinuation(r.ctx, t, r, r.compact)
		}},
		{name: "ListResourceVersionMatch", run: func(t *testing.T, r *rig) { suites.RunTestListResourceVersionMatch(r.ctx, t, r) }},
	}
	for _, stream := range []bool{false, true} {
		name, on := byStream("List", stream)
		all = append(all, suite{name: name, need: fresh, gates: on, run: func(t *testing.T, r *rig) {
			suites.RunTestList(r.ctx, t, r, r.compact, false, r.client.Kubernetes.(*suites.KubernetesRecorder))
			if streamed := r.client.KV.(*suites.KVRecorder).GetStreamReadsAndReset() > 0; streamed != stream {
				t.Errorf("lists by RangeStream: %t", streamed)
			}
		}})
		name, on = byStream("ConsistentList", stream)
		all = append(all, suite{name: name, gates: on, run: func(t *testing.T, r *rig) {
			suites.RunTestConsistentList(r.ctx, t, r, r.increase, false, true, false)
		}})
	}
	return all
}

func watches() []suite {
	all := []suite{
		{name: "Watch", run: func(t *testing.T, r *rig) { suites.RunTestWatch(r.ctx, t, r) }},
		{name: "ClusterScopedWatch", run: func(t *testing.T, r *rig) { suites.RunTestClusterScopedWatch(r.ctx, t, r) }},
		{name: "NamespaceScopedWatch", run: func(t *testing.T, r *rig) { suites.RunTestNamespaceScopedWatch(r.ctx, t, r) }},
		{name: "DeleteTriggerWatch", run: func(t *testing.T, r *rig) { suites.RunTestDeleteTriggerWatch(r.ctx, t, r) }},
		{name: "WatchFromZero", need: fresh, run: func(t *testing.T, r *rig) {
			suites.RunTestWatchFromZero(r.ctx, t, r, r.compact)
		}},
		{name: "WatchFromNonZero", run: func(t *testing.T, r *rig) { suites.RunTestWatchFromNonZero(r.ctx, t, r) }},
		{name: "DelayedWatchDelivery", run: func(t *testing.T, r *rig) { suites.RunTestDelayedWatchDelivery(r.ctx, t, r) }},
		{name: "WatchError", run: func(t *testing.T, r *rig) { suites.RunTestWatchError(r.ctx, t, r) }},
		{name: "WatchWithUnsafeDelete", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
			suites.RunTestWatchWithUnsafeDelete(r.ctx, t, r, corrupt())
		}},
		{name: "WatchContextCancel", run: func(t *testing.T, r *rig) { suites.RunTestWatchContextCancel(r.ctx, t, r) }},
		{name: "WatcherTimeout", run: func(t *testing.T, r *rig) { suites.RunTestWatcherTimeout(r.ctx, t, r) }},
		{name: "WatchDeleteEventObjectHaveLatestRV", run: func(t *testing.T, r *rig) {
			suites.RunTestWatchDeleteEventObjectHaveLatestRV(r.ctx, t, r)
		}},
		{name: "WatchInitializationSignal", run: func(t *testing.T, r *rig) {
			suites.RunTestWatchInitializationSignal(r.ctx, t, r)
		}},
		{name: "ProgressNotify", need: chatty, run: func(t *testing.T, r *rig) {
			suites.RunOptionalTestProgressNotify(r.ctx, t, r, r.increase)
		}},
		{name: "WatchDispatchBookmarkEvents", need: chatty, run: func(t *testing.T, r *rig) {
			suites.RunTestWatchDispatchBookmarkEvents(r.ctx, t, r, false)
		}},
		{name: "SendInitialEventsBackwardCompatibility", run: func(t *testing.T, r *rig) {
			suites.RunSendInitialEventsBackwardCompatibility(r.ctx, t, r)
		}},
		{name: "WatchErrorIsBlockingFurtherEvents", run: func(t *testing.T, r *rig) {
			suites.RunWatchErrorIsBlockingFurtherEvents(r.ctx, t, r)
		}},
	}
	for _, stream := range []bool{false, true} {
		name, on := byStream("WatchSemantics", stream)
		all = append(all, suite{name: name, gates: on, run: func(t *testing.T, r *rig) { suites.RunWatchSemantics(r.ctx, t, r) }})
		name, on = byStream("WatchSemanticInitialEventsExtended", stream)
		all = append(all, suite{name: name, gates: on, run: func(t *testing.T, r *rig) {
			suites.RunWatchSemanticInitialEventsExtended(r.ctx, t, r)
		}})
		name, on = byStream("WatchListMatchSingle", stream)
		all = append(all, suite{name: name, gates: on, run: func(t *testing.T, r *rig) { suites.RunWatchListMatchSingle(r.ctx, t, r) }})
	}
	return all
}
