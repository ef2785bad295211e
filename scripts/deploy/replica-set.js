// Health check of a mongod, run by mongosh inside its container: exit code 0 once the replica set has a primary
// that takes writes and this member is the primary or follows it.
//
// The member that has REPLICA_SET_MEMBERS ("mongo1:27017 mongo2:27017 …") also founds the set. That happens only
// while the member belongs to no set; MongoDB itself refuses if any other member does already. So the check
// may run as often as it likes, and a restart finds the set in the volume.

const SET_NAME = "rs0";
const foundingMembers = (process.env.REPLICA_SET_MEMBERS || "").split(/\s+/).filter(Boolean);

function found() {
  const members = foundingMembers.map((host, index) => ({ _id: index, host }));
  try {
    db.adminCommand({ replSetInitiate: { _id: SET_NAME, members } });
    print(`founded ${SET_NAME}: ${foundingMembers.join(", ")}`);
  } catch (error) {
    // AlreadyInitialized: another check was quicker. Everything else (a member not up yet) is tried again
    // by the next check.
    if (error.codeName !== "AlreadyInitialized") {
      print(`cannot found ${SET_NAME} yet: ${error.message}`);
      quit(1);
    }
  }
}

function isUsable(hello) {
  // For a moment after its election a member names itself as primary and still calls itself a secondary.
  const followsAnother = hello.secondary && Boolean(hello.primary) && hello.primary !== hello.me;
  return hello.isWritablePrimary || followsAnother;
}

let hello = db.hello();
if (hello.isreplicaset && foundingMembers.length > 0) {
  found();
  hello = db.hello(); // usually still without a primary: the election takes a moment, the next check sees it
}

if (!isUsable(hello)) {
  print(hello.isreplicaset ? "not a member of a set yet" : `no primary yet; this is ${hello.me}`);
  quit(1);
}
print(hello.isWritablePrimary ? `primary: ${hello.me}` : `secondary: ${hello.me} follows ${hello.primary}`);
quit(0);
