// Package box holds what the node agent builds clusters from: namespaces that
// outlive whoever made them ([Space]), programs inside them that are started
// again when they end ([Process], [Supervisor]), cgroups of both versions
// ([Cgroup]), and the names by which all of it is found again after a crash
// ([Root]). Linux only, root only.
//
// Everything that can be left behind carries the instance of the state folder:
//
//	/run/lazurite-INSTANCE/state      the state folder's node/, bound here: root works in no path that a user can change
//	/run/lazurite-INSTANCE/ns/SPACE/  net, uts and mnt: namespaces held by mounts
//	/lazurite-INSTANCE/NAME           cgroups, in every hierarchy
//	lzINSTANCE-N                      links on the host
package box
