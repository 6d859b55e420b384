# The operator's tool: what can be tested without a network (tests/cluster/tools.sh has the rest).
tools_tests = tests/unit/tools_target_test.cc tests/unit/tools_text_test.cc
