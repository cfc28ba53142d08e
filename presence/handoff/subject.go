package handoff

import "crier/job"

// Subjects of the messages. HandoffTo and FenceTo are asked and answered, and so
// is AnnounceTo: an empty reply says that the home has taken it in, any other that it
// knows nothing of the incarnation and wants all from 1 on. The rest is published and repeated until it has had its effect.
const subjectRoot = "crier."

// HandoffTo is where a gateway takes hand-offs.
func HandoffTo(gateway string) string { return subjectRoot + "gw." + gateway + ".handoff" }

// FenceTo is where a gateway takes fences.
func FenceTo(gateway string) string { return subjectRoot + "gw." + gateway + ".fence" }

// RecordedTo is where a gateway learns what was recorded.
func RecordedTo(gateway string) string { return subjectRoot + "gw." + gateway + ".recorded" }

// SettleTo is where a gateway learns what its clients may forget.
func SettleTo(gateway string) string { return subjectRoot + "gw." + gateway + ".settle" }

// ReportTo is where the owner of a journal takes reports.
func ReportTo(j job.Journal) string { return subjectRoot + "journal." + j.String() + ".report" }

// ReportToAny matches ReportTo of every journal of a worker.
func ReportToAny(worker string) string { return subjectRoot + "journal." + worker + ".*.report" }

// AnnounceTo is where the home of a range takes announcements.
func AnnounceTo(r job.Range) string { return subjectRoot + "home." + r.String() + ".announce" }

// AnnounceToAny matches AnnounceTo of every range.
const AnnounceToAny = subjectRoot + "home.*.announce"
