// The main header: sharded optimizers in plain C++20. It needs threads and no other library.
#pragma once

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adadelta.hpp>
#include <tessera/rule/adagrad.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/amsgrad.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/lars.hpp>
#include <tessera/rule/lion.hpp>
#include <tessera/rule/nadam.hpp>
#include <tessera/rule/radam.hpp>
#include <tessera/rule/rmsprop.hpp>
#include <tessera/rule/schedule.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/scheduled.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/sharded.hpp>
#include <tessera/stage/stage.hpp>
