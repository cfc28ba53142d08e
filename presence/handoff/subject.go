package handoff

import "crier/job"

// Subjects of the messages. HandoffTo and FenceTo are asked and answered, and so
// is AnnounceTo, with a Reception. The rest is published and repeated until it has had
// its effect.
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

// AnnounceTo is where a worker takes announcements to the ranges it is home to.
func AnnounceTo(worker string) string { return subjectRoot + "home." + worker + ".announce" }

// AnewTo is where a gateway learns what it has to announce anew.
func AnewTo(gateway string) string { return subjectRoot + "gw." + gateway + ".anew" }

// RedirectTo is where a gateway learns whose clients belong elsewhere.
func RedirectTo(gateway string) string { return subjectRoot + "gw." + gateway + ".redirect" }

// BeatTo is where every home hears the beats of all gateways.
const BeatTo = subjectRoot + "beat"

// WantTo is where workers hear that somebody needs the home of a range and finds none.
const WantTo = subjectRoot + "want"
